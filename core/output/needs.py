"""What a run will need of memory and disk, and whether that is there."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import RasterError
from ..folders import free_bytes
from ..memory import available_memory, check_memory, size_text
from .profile import BLOCK, OutputSpec
from .strips import strip_rows

_BASE_BYTES = 450_000_000
"""Python with torch and GDAL, and the pieces of rows that are read and written."""


@dataclass(frozen=True)
class Needs:
    """Bytes, estimated from shapes."""

    rows: int
    """Memory for rows of the raster, wherever they are computed."""
    work: int
    """Memory for windows and tiles that are computed side by side; none of this machine's for those on a GPU."""
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
        DeviceError: where the weights, or they with rows and windows, do not fit into memory.
    """
    free = free_bytes(path.parent)
    if needs.pixels > free:
        raise RasterError(f"{path} would take {size_text(needs.pixels)} or more, and the disk has {size_text(free)} "
                          "free: choose coarser pixels, a part, or another disk.")
    check_memory(needs.weights, "The model", "its weights", "free some, or use a machine that has more")
    check_memory(needs.rows + needs.work + needs.weights, str(path), "rows and windows",
                 "take a part with --bounds, or a smaller --tile or --batch")


def describe_needs(needs: Needs, path: Path) -> list[str]:
    """Lines for a person."""
    return [f"memory   about {size_text(needs.memory)}; {size_text(available_memory())} are free",
            f"disk     at most {size_text(needs.disk)} while it runs; {size_text(free_bytes(path.parent))} are free"]
