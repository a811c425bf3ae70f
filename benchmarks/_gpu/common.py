"""What the parts of the GPU page share: their job, a clock, timing, and rasters made on the spot."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    scene_px: int = 16384
    tile_px: int = 512
    naive_rows: int = 2048
    """Of the scene, that the plain loop is timed on."""
    agreement_px: int = 512
    warp_px: int = 8192
    exact_px: int = 2048
    """Of the warp that asks PROJ for every pixel, and of the one whose positions are checked."""
    window_px: int = 256
    width: int = 64
    """Channels of the networks that are trained."""
    steps: int = 8
    shared_px: int = 4096
    rounds: int = 3
    batches: tuple[int, ...] = (1, 4, 16, 64)


TOY = Sizes(scene_px=256, tile_px=64, naive_rows=128, agreement_px=96, warp_px=256, exact_px=128, window_px=32, width=4,
            steps=1, shared_px=128, rounds=1, batches=(1, 2))


@dataclass(frozen=True)
class Job:
    """What a part is given."""

    tell: Callable[..., None]
    """Takes the fields of one result, which is printed and kept at once: `table` names where it belongs."""
    device: torch.device
    sizes: Sizes
    folder: Path
    """Shared by the parts; what is there can be used again."""
    end: float
    """When the part is stopped, on the clock of `time.monotonic`."""

    @property
    def toy(self) -> bool:
        """Whether this only shows that the script runs."""
        return self.device.type != "cuda"

    def left(self) -> float:
        """Seconds that the part still has."""
        return self.end - time.monotonic()

    def fits(self, what: str, seconds: float) -> bool:
        """Whether so many seconds are left on a GPU; says what is left out where they are not."""
        if self.toy or self.left() > seconds:
            return True
        self.tell(table="left out", what=what, why=f"{self.left():.0f} s are left and it may take {seconds:.0f}")
        return False

    def tried(self, what: str, work: Callable[[], Any]) -> Any:
        """What the work gives; None where it fails, which is told."""
        try:
            return work()
        except Exception as error:
            self.tell(table="failed", what=what, why=f"{type(error).__name__}: {first_line(error)}")
            return None

    def goal(self, what: str, wanted: str, measured: float, met: bool) -> None:
        """One of the page's goals; toy sizes on a CPU say nothing about it."""
        self.tell(table="goals", goal=what, wanted=wanted, measured=measured, met=None if self.toy else bool(met))

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any], rounds: int | None = None, warm: bool = True) -> float:
        """Wall time of the work: the median of several rounds, after one that does not count."""
        if warm:
            work()
        found = []
        for _ in range(rounds or self.sizes.rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def compile_options(job: Job) -> dict[str, str]:
    """Inductor on a GPU; on a CPU the tracer alone, for its C++ takes half a minute a network."""
    return {"backend": "eager"} if job.toy else {}


def texture(bands: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth noise (bands,side,side), float32, of zero mean and unit variance."""
    from _inference_programs import pink

    rng = np.random.default_rng(seed)
    return np.stack([pink(side, rng) for _ in range(bands)])


def scene(job: Job, side: int, rows: int | None = None) -> str:
    """Four bands of smooth noise, uint16, in UTM zone 32, ZSTD in tiles of 512; made once per folder.

    One field of 2048 pixels is repeated with a step, so that making it takes seconds.
    """
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rows = rows or side
    path = job.folder / f"scene-{rows}x{side}.tif"
    if path.exists():
        return str(path)
    piece = np.clip(texture(4, min(2048, side)) * 1200 + 4000, 1, 9500).astype("uint16")
    part = path.with_suffix(".part")
    with rasterio.open(part, "w", driver="GTiff", count=4, dtype="uint16", height=rows, width=side, crs="EPSG:32632",
                       transform=from_origin(500_000, 5_300_000, 10, 10), tiled=True, blockxsize=512, blockysize=512,
                       compress="zstd", zstd_level=1, predictor=2, interleave="pixel", bigtiff="if_safer",
                       num_threads="all_cpus") as out:
        for row in range(0, rows, 512):
            lines = np.roll(piece, 37 * row // 512, 2)[:, np.arange(row, min(row + 512, rows)) % piece.shape[1]]
            out.write(np.tile(lines, -(-side // piece.shape[2]))[:, :, :side],
                      window=Window(0, row, side, lines.shape[1]))
    part.rename(path)
    return str(path)


def convolutions(job: Job) -> Path:
    """The model of `benchmarks/inference.py`: six convolutions with 32 channels beside the identity, untrained."""
    from _inference_programs import prepare, register

    folder = job.folder / "model"
    register()
    if not folder.exists():
        prepare({"package": str(folder), "onnx": None})
    return folder


@dataclass
class Forced:
    """cuDNN's arithmetic of float32 while this lasts, and of matrix products."""

    tf32: bool

    def __enter__(self) -> None:
        self.before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32

    def __exit__(self, *_) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self.before


def batches(items: list, size: int) -> Iterator[list]:
    """Consecutive items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
