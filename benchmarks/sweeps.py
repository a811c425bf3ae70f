"""What every place that goes over a whole raster costs beside a plain read of the same file.

    python benchmarks/sweeps.py [--size 6000] [--rounds 5] [--kinds NAME ...] [--write docs/results/sweeps.md]

A plain read is rasterio's: open the file, read each block once, keep nothing. All times are CPU time of the process,
its threads included, of the fastest of several rounds; in a round a plain read follows each place. Files are opened
anew for each, and that is not counted; they lie in the page cache.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from geoi2i.core.grid import Window
from geoi2i.core.raster.source import RasterSource
from geoi2i.training.sweeps import mean_covariance
from geoi2i.training.windows import valid_fractions
from rasterio.enums import ColorInterp

sys.path.insert(0, str(Path(__file__).parent))
from _trials import write_page

MOST, FLOOR_S = 1.3, 0.010
"""A place may take so many times the plain read, and so much longer."""
SMALL = (720, 1440)
TILED = {"tiled": True, "blockxsize": 512, "blockysize": 512}


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    label: str
    dtype: str
    profile: dict
    bands: int = 3
    shape: tuple[int, int] | None = None
    """None: as large as the benchmark's."""
    holes: str = ""
    """How it says where there is no data: nodata, mask or nan; empty: there is data everywhere."""


ZSTD = TILED | {"compress": "zstd", "interleave": "pixel"}
KINDS = {
    "float32-small": Kind("float32, zstd, tiles, pixel-interleaved", "float32", ZSTD, shape=SMALL),
    "float32": Kind("float32, zstd, tiles, pixel-interleaved", "float32", ZSTD),
    "float32-nodata": Kind("the same with nodata", "float32", ZSTD | {"nodata": -9999.0}, holes="nodata"),
    "float32-nan": Kind("the same with NaN", "float32", ZSTD, holes="nan"),
    "float32-mask": Kind("the same with a mask band", "float32", ZSTD, holes="mask"),
    "uint16": Kind("uint16, deflate, tiles, band-interleaved", "uint16",
                   TILED | {"compress": "deflate", "interleave": "band"}),
    "uint16-nodata": Kind("the same with nodata", "uint16",
                          TILED | {"compress": "deflate", "interleave": "band", "nodata": 0}, holes="nodata"),
    "uint8-raw": Kind("uint8, uncompressed, strips", "uint8", {"interleave": "pixel"}),
    "uint8-lzw": Kind("uint8, LZW, strips", "uint8", {"interleave": "pixel", "compress": "lzw"}),
    "jpeg": Kind("uint8, JPEG (YCbCr), tiles", "uint8",
                 TILED | {"interleave": "pixel", "compress": "jpeg", "photometric": "ycbcr"}),
    "jpeg-mask": Kind("the same with a mask band", "uint8",
                      TILED | {"interleave": "pixel", "compress": "jpeg", "photometric": "ycbcr"}, holes="mask")}


def whole(raster: RasterSource) -> None:
    for _ in raster.rows():
        pass


def in_windows(raster: RasterSource) -> None:
    with raster.windows(0) as windows:
        for row in range(0, raster.grid.height, 512):
            for col in range(0, raster.grid.width, 512):
                windows.read(Window(row, col, min(512, raster.grid.height - row), min(512, raster.grid.width - col)))


def candidates(raster: RasterSource, side: int = 256) -> None:
    """As training looks for windows."""
    rows, cols = (each.ravel() for each in np.mgrid[0 : raster.grid.height - side : side // 8,
                                                    0 : raster.grid.width - side : side // 8])
    valid_fractions(raster, rows, cols, side)


PLACES: dict[str, Callable[[RasterSource], object]] = {
    "rows": whole,
    "windows": in_windows,
    "decimated": lambda raster: raster.decimated(),
    "statistics": lambda raster: raster.statistics((2, 50, 98)),
    "candidates": candidates,
    "mean and covariance": lambda raster: mean_covariance([raster], [f"b{k}" for k in range(len(raster.bands))])}
LABELS = {"rows": "`rows()`, as run and evaluate read", "windows": "`windows()`, as reproject and evaluate read",
          "decimated": "`decimated()`: quicklook, footprint", "statistics": "`statistics()`: percentiles of run",
          "candidates": "windows with enough valid pixels, for train",
          "mean and covariance": "means and covariance of fit"}


def write_scene(path: Path, kind: Kind, shape: tuple[int, int]) -> None:
    """Smooth fields with noise: they compress as images do."""
    height, width = kind.shape or shape
    generator, profile = np.random.default_rng(0), {"driver": "GTiff", "bigtiff": "IF_SAFER", **kind.profile}
    top = {"uint8": 255, "uint16": 9000}.get(kind.dtype, 1.0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_NUM_THREADS="ALL_CPUS"), rasterio.open(
            path, "w", height=height, width=width, count=kind.bands, dtype=kind.dtype, crs="EPSG:32631",
            transform=Affine(10, 0, 300_000, 0, -10, 5_000_000), **profile) as out:
        if kind.bands == 3 and kind.dtype == "uint8":
            out.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        for row in range(0, height, 512):
            y, x = np.mgrid[row : min(row + 512, height), 0:width].astype("float32")
            waves = [np.sin(x / (90 + 20 * k)) * np.cos(y / (70 + 10 * k)) for k in range(kind.bands)]
            noise = generator.normal(0, 0.02, (kind.bands, *x.shape)).astype("float32")
            pixels = ((np.stack(waves) * 0.4 + 0.5 + noise).clip(0.01, 1) * top).astype(kind.dtype)
            if kind.dtype == "float32":
                pixels = np.round(pixels * 4096) / np.float32(4096)  # as measured values have few digits
            empty = (x + y) % 3000 < 400
            if kind.holes in ("nodata", "nan"):
                pixels[:, empty] = np.nan if kind.holes == "nan" else profile["nodata"]
            window = rasterio.windows.Window(0, row, width, x.shape[0])
            out.write(pixels, window=window)
            if kind.holes == "mask":
                out.write_mask(np.where(empty, 0, 255).astype("uint8"), window=window)


def plain(path: Path) -> float:
    """CPU seconds of a plain read."""
    with rasterio.Env(GDAL_CACHEMAX=8 << 20), rasterio.open(path) as data:
        started = time.process_time()
        for _, window in data.block_windows(1):
            data.read(window=window)
        if data.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]:
            for _, window in data.block_windows(1):
                data.read_masks(1, window=window)
        return time.process_time() - started


def place(path: Path, name: str) -> float:
    """CPU seconds of one place."""
    raster = RasterSource.open(path)
    started = time.process_time()
    PLACES[name](raster)
    return time.process_time() - started


def measured(path: Path, rounds: int) -> tuple[float, dict[str, float]]:
    """Least CPU seconds of a plain read and of each place."""
    found: dict[str, list[float]] = {name: [] for name in PLACES}
    reads = []
    for name in [*PLACES, *list(PLACES) * rounds]:  # the first round warms up
        found[name].append(place(path, name))
        reads.append(plain(path))
    return min(reads), {name: min(seconds[1:]) for name, seconds in found.items()}


def within(own: float, its: float) -> bool:
    """Whether a place keeps to its bound."""
    return own <= MOST * its + FLOOR_S


def page(found: dict[str, tuple[float, dict[str, float]]], size: int, rounds: int) -> str:
    """The figures as a page."""
    lines = ["| file | plain read s | " + " | ".join(PLACES) + " |", "|---|--:|" + "--:|" * len(PLACES)]
    for kind, (its, places) in found.items():
        height, width = KINDS[kind].shape or (size, size)
        cells = [f"{own / its:.2f}" if within(own, its) else f"**{own / its:.2f}**" for own in places.values()]
        lines.append(f"| {KINDS[kind].label}, {width} x {height} x {KINDS[kind].bands} | {its:.3f} | "
                     + " | ".join(cells) + " |")
    over = [f"{name} of {kind}" for kind, (its, places) in found.items() for name, own in places.items()
            if not within(own, its)]
    return "\n".join([
        "# Going over a raster: CPU time beside a plain read", "",
        "Made by `python benchmarks/sweeps.py --write docs/results/sweeps.md`; do not edit above the last heading.", "",
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used, rasterio {rasterio.__version__} "
        f"(GDAL {rasterio.__gdal_version__}), numpy {np.__version__}. How many times the CPU time of a plain read each "
        "takes: that of the process with its threads, the least of "
        f"{rounds} rounds, in which each place is followed by a plain read; of plain reads the least of all. That is "
        "rasterio's: each block read once, in one thread, and thrown away, with a block cache of 8 MiB; the mask band "
        f"too, where there is one. Opening is not counted, and files are in the page cache. "
        f"Bound: {MOST:g} times the plain read and {1000 * FLOOR_S:.0f} ms; past it in bold.", "",
        *lines, "", *(f"- {name}: {LABELS[name]}" for name in PLACES), "",
        f"Past the bound: {', '.join(over) or 'none'}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory(prefix="geoi2i-sweeps-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        for name in arguments.kinds:
            path = Path(folder) / f"{name}.tif"
            write_scene(path, KINDS[name], (arguments.size, arguments.size))
            found[name] = measured(path, arguments.rounds)
            path.unlink()
            its, places = found[name]
            print(f"{name}: plain {its:.3f} s,", ", ".join(f"{place} {own:.3f} ({own / its:.2f})"
                                                          for place, own in places.items()), flush=True)
    text = page(found, arguments.size, arguments.rounds)
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


if __name__ == "__main__":
    main()
