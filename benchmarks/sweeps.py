"""CPU time of everything that sweeps over a raster, against a plain read of the same file.

    python benchmarks/sweeps.py [--size 6000] [--rounds 3] [--folder DIR] [--write docs/results/sweeps.md]

A plain read is rasterio's `read` of block after block, the mask band's too where there is one, and keeps nothing. CPU
seconds are those of the process, GDAL's threads included; places take turns with the plain read, and the least of all
rounds counts. Each opens the file anew. What only reads may take 1.3 times a plain read, and 10 ms more: what opening
and inspecting a file and the statistics of a small sample cost whatever its size.

Fits and evaluations compute beside reading: their arithmetic is what they take on the same rows held in memory, and
they may take 1.3 times a plain read (two, for curves, which pass twice) and the arithmetic together.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from geoi2i.core.evaluation.compare import measure_alone
from geoi2i.core.metrics.agreement import clipped
from geoi2i.core.raster.source import RasterSource
from geoi2i.training import closed_forms, sweeps, windows

BOUND, FLOOR_S = 1.3, 0.01
TILES = {"tiled": True, "blockxsize": 512, "blockysize": 512}
NAMES = ["red", "green", "blue"]


def reading(raster: RasterSource) -> dict[str, Callable]:
    """What only reads."""
    return {"decimated": raster.decimated, "statistics": lambda: raster.statistics((0.1, 99.9)),
            "valid pixels": lambda: raster.valid(4096), "candidates": lambda: windows._places(raster, 256),
            "rows": lambda: consume(raster.rows())}


def computing(raster) -> dict[str, Callable]:
    """What computes, too."""
    def curves():
        colours = sweeps.MeanCovariance(1, np.zeros(3), np.eye(3))
        closed_forms._quantiles([raster], np.linspace(0, 1, 256), colours)

    ends = ((0.0,) * 3, (255.0,) * 3)
    return {"fit: mean and covariance": lambda: sweeps.mean_covariance([raster], NAMES), "fit: curves": curves,
            "evaluate: clipped": lambda: measure_alone(raster, [clipped(*ends)])}


def consume(rows: Iterator) -> None:
    for _ in rows:
        pass


class Held:
    """A raster whose rows are in memory, to tell arithmetic from reading."""

    def __init__(self, raster: RasterSource):
        self._raster, self._rows = raster, list(raster.rows())

    def __getattr__(self, name: str):
        return getattr(self._raster, name)

    def rows(self, window=None, part=None):
        return iter(self._rows)


def plain_read(path: Path) -> None:
    """Each block once, as rasterio reads it."""
    with rasterio.open(path) as data:
        masked = data.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]
        for _, window in data.block_windows(1):
            data.read(window=window)
            if masked:
                data.read_masks(1, window=window)


def swept(path: Path, table: Callable, name: str) -> None:
    """One place, with the opening of the file."""
    table(RasterSource.open(path))[name]()


def cpu(action: Callable, *arguments) -> float:
    started = time.process_time()
    action(*arguments)
    return time.process_time() - started


def least(path: Path, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds of each place and of the plain read, and of the arithmetic of what computes."""
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        spent.setdefault("plain", []).append(cpu(plain_read, path))
        for table in (reading, computing):
            for name in table(RasterSource.open(path)):
                spent.setdefault(name, []).append(cpu(swept, path, table, name))
    held = Held(RasterSource.open(path))
    arithmetic = {name: min(cpu(action) for _ in range(max(2, rounds - 1)))
                  for name, action in computing(held).items()}
    return {name: min(each) for name, each in spent.items()}, arithmetic


def image(height: int, width: int, dtype: str) -> np.ndarray:
    """(3,h,w) of a smooth scene with noise, in 12 bits where they are floats."""
    rows, cols = np.mgrid[0:height, 0:width].astype("float32")
    generator, made = np.random.default_rng(0), np.empty((3, height, width), dtype)
    top = {"float32": 1, "uint16": 10_000, "uint8": 255}[dtype]
    for k in range(3):
        values = 0.5 + 0.25 * np.sin(rows / (90 + k)) * np.cos(cols / 170)
        values += 0.02 * generator.standard_normal((height, width), dtype="float32")
        made[k] = np.round(values * 4096) / 4096 if dtype == "float32" else values.clip(0.01, 0.99) * top
    return made


def files(folder: Path, size: int) -> Iterator[tuple[str, Path]]:
    """The kinds of files, each made when its turn comes."""
    zstd = {"interleave": "pixel", "compress": "zstd", **TILES}
    deflate = {"interleave": "band", "compress": "deflate", "predictor": 2, **TILES}
    kinds = {
        "float32, zstd, by pixel, 1440 x 720": ("float32", (720, 1440), "", zstd),
        "float32, zstd, by pixel": ("float32", None, "", zstd),
        "float32, zstd, by pixel, NaN": ("float32", None, "nan", zstd),
        "uint16, deflate, by band": ("uint16", None, "", deflate),
        "uint16, deflate, by band, nodata": ("uint16", None, "nodata", {**deflate, "nodata": 0}),
        "uint8, strips, not compressed": ("uint8", None, "", {"interleave": "pixel", "blockysize": 1}),
        "uint8, strips, not compressed, nodata": ("uint8", None, "nodata",
                                                  {"interleave": "pixel", "blockysize": 1, "nodata": 0}),
        "uint8, strips, LZW": ("uint8", None, "", {"interleave": "pixel", "compress": "lzw", "blockysize": 8}),
        "uint8, JPEG, YCbCr": ("uint8", None, "", {"interleave": "pixel", "compress": "jpeg", "photometric": "ycbcr",
                                                   **TILES}),
        "uint8, deflate, mask band": ("uint8", None, "mask", {"interleave": "pixel", "compress": "deflate", **TILES})}
    for number, (name, (dtype, shape, holes, options)) in enumerate(kinds.items()):
        height, width = shape or (size, size)
        pixels, path = image(height, width, dtype), folder / f"{number}.tif"
        rows, cols = np.ogrid[:height, :width]
        hole = np.hypot(rows - height / 2, cols - width / 2) < height / 5
        if holes in ("nan", "nodata"):
            pixels[:, hole] = np.nan if holes == "nan" else 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
                path, "w", driver="GTiff", count=3, height=height, width=width, dtype=dtype, crs="EPSG:32631",
                transform=rasterio.Affine(30, 0, 500_000, 0, -30, 4_500_000), **options) as out:
            out.write(pixels)
            if holes == "mask":
                out.write_mask(~hole)
        yield name, path
        path.unlink()


def row_of(name: str, found: dict[str, float], arithmetic: dict[str, float]) -> tuple[str, str]:
    """A line of either table."""
    plain = found["plain"]
    cells, others = [f"{plain:.3f}"], []
    for place, seconds in found.items():
        if place == "plain":
            continue
        if place in arithmetic:
            own = arithmetic[place]
            reads = 2 if place == "fit: curves" else 1
            kept = seconds <= BOUND * (reads * plain + own) + FLOOR_S
            others.append(f"{seconds:.3f} = {seconds / plain:.2f} x; arithmetic {own:.3f}{'' if kept else ' **over**'}")
        else:
            kept = seconds <= BOUND * plain + FLOOR_S
            cells.append(f"{seconds:.3f} ({seconds / plain:.2f}){'' if kept else ' **over**'}")
    return f"| {name} | {' | '.join(cells)} |", f"| {name} | {' | '.join(others)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=6000, help="rows and columns of the larger files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made; 500 MB are needed")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    first, second = [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name, path in files(Path(folder), arguments.size):
            found, arithmetic = least(path, arguments.rounds)
            for lines, line in zip((first, second), row_of(name, found, arithmetic)):
                lines.append(line)
                print(line, flush=True)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("rasterio", "numpy"))
    text = "\n".join([
        "# Sweeps over rasters", "",
        f"`python benchmarks/sweeps.py --size {arguments.size} --rounds {arguments.rounds}`, "
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, {versions}, GDAL "
        f"{rasterio.__gdal_version__}. Files of {arguments.size} x {arguments.size} pixels and three bands.", "",
        __doc__.split("\n\n", 2)[2].strip(), "",
        "CPU seconds, and in brackets the times of a plain read:", "",
        f"| file | plain read | {' | '.join(READING)} |", f"|---|{'---|' * (len(READING) + 1)}", *first, "",
        f"| file | {' | '.join(COMPUTING)} |", f"|---|{'---|' * len(COMPUTING)}", *second, ""])
    if arguments.write:
        arguments.write.write_text(text)


READING = ("decimated", "statistics", "valid pixels", "candidates", "rows")
COMPUTING = ("fit: mean and covariance", "fit: curves", "evaluate: clipped")


if __name__ == "__main__":
    main()
