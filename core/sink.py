"""The output raster: rows in, strips on disk, at the end one Cloud Optimized GeoTIFF.

Rows are written as full-width strips in `<output>.geoi2i-parts/`, each with its share of the overviews.
`commit` assembles them under a temporary name and renames that to the output's name; before that, no file
of that name exists.
"""

import contextlib
import os
import queue
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.windows import Window as RioWindow

from .errors import RasterError
from .mosaic import BLOCK, Level, OutputSpec, auxiliary, mosaic
from .overviews import halve
from .raster import GDAL_SETTINGS

PARTS_SUFFIX = ".geoi2i-parts"
_STRIP_BYTES = 4 << 20


class RasterSink:
    """Takes rows in order and publishes a COG; use as a context manager, then `commit`.

    Leaving the context without `commit` removes everything that was written.
    """

    def __init__(self, path: str | os.PathLike, spec: OutputSpec, overwrite: bool = False):
        self.path, self.spec = Path(path), spec
        check_output(self.path, overwrite)
        self.parts = self.path.with_name(self.path.name + PARTS_SUFFIX)
        self._level = _LevelWriter(self.parts, spec, 0, spec.grid.height, spec.grid.width)
        self._queue: queue.Queue = queue.Queue(2)
        self._failure: list[BaseException] = []
        self._writer = threading.Thread(target=self._drain, name="geoi2i-write", daemon=True)

    def __enter__(self) -> "RasterSink":
        try:
            if self.parts.exists():
                shutil.rmtree(self.parts)
            self.parts.mkdir()
            self._writer.start()
        except OSError as error:
            raise RasterError(f"Nothing can be written in {self.path.parent} ({error.strerror}): "
                              "choose another output folder.") from error
        except BaseException:  # an interrupt that comes now would find no context to leave
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self.parts, ignore_errors=True)

    def write(self, row: int, pixels: np.ndarray, mask: np.ndarray | None) -> None:
        """Rows `row`.. of the output: `pixels` (C,h,W) of the output's dtype, `mask` as in `Rows`."""
        self._check()
        self._queue.put((row, pixels, mask))

    def assemble(self) -> None:
        """Puts the strips together under a temporary name; what can fail, fails here."""
        self._stop()
        self._check()
        level, *overviews = self._level.levels()
        (self.parts / level.listing).write_text(mosaic(self.spec, level, tuple(overviews)))
        for smaller in overviews:
            (self.parts / smaller.listing).write_text(mosaic(self.spec, smaller))
        whole = self.parts / "output.tif"
        with _writing(self.path, self.spec):
            rasterio.shutil.copy(str(self.parts / level.listing), str(whole), driver="COG", **cog_options(self.spec))
            _check_complete(whole, self.spec)
        with open(whole, "rb+") as done:
            os.fsync(done.fileno())

    def commit(self) -> Path:
        """Assembles the strips unless that is done, renames the result to the output's name, and returns that."""
        whole = self.parts / "output.tif"
        if not whole.exists():
            self.assemble()
        sidecar = Path(f"{self.path}.aux.xml")
        described = auxiliary(self.spec)
        if described:
            (self.parts / "output.aux.xml").write_text(described)
            os.replace(self.parts / "output.aux.xml", sidecar)
        else:
            sidecar.unlink(missing_ok=True)
        os.replace(whole, self.path)
        return self.path

    def _drain(self) -> None:
        """The writer thread."""
        while (item := self._queue.get()) is not None:
            if self._failure:
                continue  # keep emptying the queue, so that the producer does not block
            try:
                with _writing(self.path, self.spec):
                    self._level.write(*item)
            except BaseException as error:
                self._failure.append(error)

    def _stop(self) -> None:
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()

    def _check(self) -> None:
        if self._failure:
            raise self._failure[0]


class _LevelWriter:
    """Gathers the rows of one level in strips, writes each as one file and hands it, halved, to the next level."""

    def __init__(self, parts: Path, spec: OutputSpec, number: int, height: int, width: int):
        self.parts, self.spec, self.number, self.height, self.width = parts, spec, number, height, width
        self.masked = bool(spec.mask or spec.alpha)
        row_bytes = width * (len(spec.bands) + self.masked) * np.dtype(spec.dtype).itemsize
        self.strip_rows = max(BLOCK, _STRIP_BYTES // row_bytes // BLOCK * BLOCK)
        self.strips: list[tuple[int, int]] = []
        self.pixels: np.ndarray | None = None
        self.mask: np.ndarray | None = None
        half = -(-height // 2), -(-width // 2)
        self.next = _LevelWriter(parts, spec, number + 1, *half) if max(height, width) > BLOCK else None

    def levels(self) -> list[Level]:
        """This level and those below."""
        mine = Level(self.number, self.height, self.width, tuple(self.strips))
        return [mine, *(self.next.levels() if self.next else ())]

    def write(self, row: int, pixels: np.ndarray, mask: np.ndarray | None) -> None:
        """Copies rows to the strip they belong to: one block of memory, where many pieces would fragment it."""
        while pixels.shape[1]:
            first = row // self.strip_rows * self.strip_rows
            height = min(self.strip_rows, self.height - first)
            if self.pixels is None:
                self.pixels = np.empty((pixels.shape[0], height, self.width), self.spec.dtype)
                if self.masked:
                    self.mask = np.full((1, height, self.width), 255, self.spec.alpha or "uint8")
            rows = min(first + height - row, pixels.shape[1])
            part = slice(row - first, row - first + rows)
            self.pixels[:, part] = pixels[:, :rows]
            if mask is not None and self.masked:
                shown = mask.clip(0, 255) if self.spec.alpha == "uint8" else mask  # what is opaque stays opaque
                self.mask[:, part] = shown[:, :rows]
            row, pixels, mask = row + rows, pixels[:, rows:], None if mask is None else mask[:, rows:]
            if row == first + height:
                self._finish(first)

    def _finish(self, first: int) -> None:
        (pixels, self.pixels), (mask, self.mask) = (self.pixels, None), (self.mask, None)
        level = Level(self.number, self.height, self.width, ())
        _write_plain(self.parts / level.file("strip", first), pixels)
        if mask is not None:
            _write_plain(self.parts / level.file("mask", first), mask)
        self.strips.append((first, pixels.shape[1]))
        if self.next:
            self.next.write(first // 2, *halve(pixels, mask, self.spec.nodata, bool(self.spec.alpha)))


def check_output(path: Path, overwrite: bool) -> None:
    """Raises RasterError where the output cannot or must not be written; touches nothing."""
    folder = path.parent
    if path.is_dir():
        raise RasterError(f"{path} is a folder: name a file, for example {path / 'output.tif'}.")
    if not folder.is_dir():
        raise RasterError(f"The output folder {folder} does not exist: create it, or choose another.")
    if not os.access(folder, os.W_OK):
        raise RasterError(f"Nothing can be written in {folder} (read-only): choose another output folder.")
    if path.exists() and not overwrite:
        raise RasterError(f"{path} exists already: give --overwrite to replace it, or another --output.")


def same_file(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    """Whether both paths name one existing file."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _write_plain(path: Path, pixels: np.ndarray) -> None:
    """One strip: uncompressed, tiled like the output. Its size proves that the disk took all of it."""
    count, height, width = pixels.shape
    options = dict(driver="GTiff", dtype=pixels.dtype, count=count, height=height, width=width, interleave="band",
                   bigtiff="IF_SAFER")
    if height >= 16 and width >= 16:
        options |= dict(tiled=True, blockxsize=BLOCK, blockysize=BLOCK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as out:
            out.write(pixels)
    if path.stat().st_size < pixels.nbytes:
        raise OSError(28, "No space left on device")


@contextlib.contextmanager
def _writing(path: Path, spec: OutputSpec) -> Iterator[None]:
    try:
        with rasterio.Env(**GDAL_SETTINGS):
            yield
    except (OSError, rasterio.errors.RasterioError, CPLE_BaseError) as error:
        free = shutil.disk_usage(path.parent).free
        need = spec.raw_bytes
        reason = (f"the disk is full ({free / 1e6:.0f} MB free, about {2 * need / 1e6:.0f} MB needed): free some "
                  "space or choose another disk" if free < 2 * need else str(error))
        raise RasterError(f"{path} cannot be written: {reason}.") from error


def _check_complete(path: Path, spec: OutputSpec) -> None:
    """Reads one pixel of the last block of every band: a file that lost its end does not pass."""
    grid = spec.grid
    with rasterio.open(path) as data:
        data.read(window=RioWindow(grid.width - 1, grid.height - 1, 1, 1))


def cog_options(spec: OutputSpec) -> dict[str, str]:
    floating = np.dtype(spec.dtype).kind == "f"
    return {"COMPRESS": "ZSTD", "LEVEL": "1", "PREDICTOR": "FLOATING_POINT" if floating else "STANDARD",
            "BLOCKSIZE": str(BLOCK), "BIGTIFF": "IF_SAFER", "NUM_THREADS": "ALL_CPUS",
            "OVERVIEW_RESAMPLING": "AVERAGE"}


def write_png(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """An RGB picture (3,h,w) uint8 as a PNG file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="PNG", count=3, height=rgb.shape[1], width=rgb.shape[2],
                           dtype="uint8") as out:
            out.write(rgb)
