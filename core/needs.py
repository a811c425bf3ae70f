"""What a run will need of memory and disk, and whether that is there."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DeviceError, RasterError
from .folders import free_bytes
from .spec import BLOCK, OutputSpec
from .strips import strip_rows

_BASE_BYTES = 450_000_000
"""Python with torch and GDAL, and the pieces of rows that are read and written."""


@dataclass(frozen=True)
class Needs:
    """Bytes, estimated from shapes."""

    rows: int
    """Memory for rows of the raster, wherever they are computed."""
    work: int
    """Memory for windows and tiles that are computed side by side."""
    pixels: int
    """Disk for the pixels, once, as well compressed as those of the input."""
    disk: int
    """Disk at most: strips and the whole, with overviews, not compressed."""
    weights: int = 0
    """Memory for the model's weights."""

    @property
    def memory(self) -> int:
        return _BASE_BYTES + self.rows + self.work + self.weights


def writing_bytes(specs: tuple[OutputSpec, ...]) -> int:
    """Memory for the strips of outputs that are made together: gathered, waiting, being written, and overviews."""
    height = min(strip_rows(specs), -(-specs[0].grid.height // BLOCK) * BLOCK)
    return sum(4 * height * spec.grid.width * (len(spec.bands) + 1) * np.dtype(spec.dtype).itemsize for spec in specs)


def disk_bytes(specs: tuple[OutputSpec, ...], compressed: float) -> tuple[int, int]:
    """`Needs.pixels` and `Needs.disk` of outputs whose input takes `compressed` of its raw size."""
    raw = sum(spec.raw_bytes for spec in specs)
    return math.ceil(raw * min(1.0, compressed)), math.ceil(raw * 8 / 3)


def check_needs(path: Path, needs: Needs) -> None:
    """Refuses what cannot work.

    Raises:
        RasterError: where not even the bare pixels fit on the disk.
        DeviceError: where not even the weights, or the rows, fit into memory.
    """
    free = free_bytes(path.parent)
    if needs.pixels > free:
        raise RasterError(f"{path} would take {_size(needs.pixels)} or more, and the disk has {_size(free)} free: "
                          "choose coarser pixels, a part, or another disk.")
    memory = available_memory()
    if memory is not None and needs.weights > memory:
        raise DeviceError(f"The model's weights take {_size(needs.weights)} of memory, and {_size(memory)} are free: "
                          "free some, or use a machine that has more.")
    if memory is not None and needs.rows > memory:
        raise DeviceError(f"{path} needs {_size(needs.rows)} of memory for rows of the raster, and {_size(memory)} are "
                          "free: take a part with --extent, or a smaller --tile.")


def available_memory() -> int | None:
    """Bytes that programs can still have, within the limit of the container; None where the system does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found) if found else None


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def describe_needs(needs: Needs, path: Path) -> list[str]:
    """Lines for a person."""
    memory = available_memory()
    free = f"; {_size(memory)} are free" if memory is not None else ""
    return [f"memory   about {_size(needs.memory)}{free}",
            f"disk     at most {_size(needs.disk)} while it runs; {_size(free_bytes(path.parent))} are free"]
