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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.windows import Window as RioWindow

from .cog import Image, Strip, Tag, read_strip, write_cog
from .errors import RasterError
from .overviews import halve
from .raster import GDAL_SETTINGS
from .spec import BLOCK, OutputSpec, auxiliary, template

PARTS_SUFFIX = ".geoi2i-parts"
_STRIP_BYTES = 4 << 20


class RasterSink:
    """Takes rows in order and publishes a COG; use as a context manager, then `commit`.

    Leaving the context without `commit` removes everything that was written.
    """

    def __init__(self, path: str | os.PathLike, spec: OutputSpec, overwrite: bool = False):
        self.path, self.spec = Path(path), spec
        check_output(self.path, overwrite)
        check_room(self.path, spec)
        self.parts = self.path.with_name(self.path.name + PARTS_SUFFIX)
        self._queue: queue.Queue[_Strip | None] = queue.Queue(1)
        self._level = _LevelWriter(self.parts, spec, 0, spec.grid.height, spec.grid.width, self._queue.put)
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
        """Rows `row`.. of the output: `pixels` (C,h,W) of its dtype; `mask` (1,h,W), alpha values or 0 and not 0."""
        self._check()
        self._level.write(row, pixels, mask)

    def assemble(self) -> None:
        """Puts the strips together under a temporary name; what can fail, fails here."""
        self._stop()
        self._check()
        whole = self.parts / "output.tif"
        with _writing(self.path, self.spec):
            (full, *masks), *overviews = self._level.levels()
            full = replace(full, tags=self._described())
            write_cog(whole, [(full, *masks), *overviews])
            _check_complete(whole, self.spec)
        with open(whole, "rb+") as done:
            os.fsync(done.fileno())

    def _described(self) -> dict[int, Tag]:
        """The tags of the full resolution: GDAL writes them for one empty block."""
        described, small = self.parts / "template.vrt", self.parts / "template.tif"
        described.write_text(template(self.spec))
        rasterio.shutil.copy(str(described), str(small), driver="GTiff", **_tile_options(self.spec.dtype))
        return read_strip(small)[0]

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
        """The writer thread: one strip is gathered and one waits while it writes another."""
        while (strip := self._queue.get()) is not None:
            if self._failure:
                continue  # keep emptying the queue, so that the producer does not block
            try:
                with _writing(self.path, self.spec):
                    self._level.finish(strip)
            except BaseException as error:
                self._failure.append(error)

    def _stop(self) -> None:
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()

    def _check(self) -> None:
        if self._failure:
            raise self._failure[0]


class _Strip:
    """Rows that become one file: whole tiles, so filled up with zeros to the right and below."""

    def __init__(self, first: int, height: int, width: int, spec: OutputSpec):
        shape = -(-height // BLOCK) * BLOCK, -(-width // BLOCK) * BLOCK
        inside, bands = (slice(None), slice(height), slice(width)), len(spec.bands)
        self.first, self.height = first, height
        self.stored = np.zeros((bands + spec.alpha, *shape), spec.dtype)
        self.pixels = self.stored[:bands][inside]
        self.mask = self.stored_mask = None
        if spec.alpha:
            self.mask = self.stored[bands:][inside]
        elif spec.mask:
            self.stored_mask = np.zeros((1, *shape), np.uint8)
            self.mask = self.stored_mask[inside]
        if self.mask is not None:
            self.mask[:] = 255


class _LevelWriter:
    """Gathers the rows of one level in strips, writes each as one file and hands it, halved, to the next level."""

    def __init__(self, parts: Path, spec: OutputSpec, number: int, height: int, width: int,
                 when_full: Callable[[_Strip], None] | None = None):
        self.parts, self.spec, self.number, self.height, self.width = parts, spec, number, height, width
        row_bytes = width * (len(spec.bands) + 1) * np.dtype(spec.dtype).itemsize
        self.strip_rows = max(BLOCK, _STRIP_BYTES // row_bytes // BLOCK * BLOCK)
        self.strip: _Strip | None = None
        self.when_full = when_full or self.finish
        self.written: list[tuple[Strip, ...]] = []
        self.tags: tuple[dict[int, Tag], ...] = ()
        half = -(-height // 2), -(-width // 2)
        self.next = _LevelWriter(parts, spec, number + 1, *half) if max(height, width) > BLOCK else None

    def levels(self) -> list[tuple[Image, ...]]:
        """This level and those below, each with its mask where there is one."""
        mine = tuple(Image(self.height, self.width, tags, strips)
                     for tags, strips in zip(self.tags, zip(*self.written)))
        return [mine, *(self.next.levels() if self.next else ())]

    def write(self, row: int, pixels: np.ndarray, mask: np.ndarray | None) -> None:
        """Copies rows to the strip they belong to: one block of memory, where many pieces would fragment it."""
        while pixels.shape[1]:
            if self.strip is None:
                self.strip = _Strip(row, min(self.strip_rows, self.height - row), self.width, self.spec)
            strip, start = self.strip, row - self.strip.first
            rows = min(strip.height - start, pixels.shape[1])
            strip.pixels[:, start : start + rows] = pixels[:, :rows]
            if mask is not None and strip.mask is not None:
                strip.mask[:, start : start + rows] = mask[:, :rows]
            row, pixels, mask = row + rows, pixels[:, rows:], None if mask is None else mask[:, rows:]
            if start + rows == strip.height:
                self.strip = None
                self.when_full(strip)

    def finish(self, strip: _Strip) -> None:
        """Writes a strip that is full, and its share of the levels below."""
        written = [_write_strip(self._file("strip", strip.first), strip.stored)]
        if strip.stored_mask is not None:
            written.append(_write_strip(self._file("mask", strip.first), (strip.stored_mask != 0).view(np.uint8), 1))
        self.tags = tuple(tags for tags, _ in written)
        self.written.append(tuple(tiles for _, tiles in written))
        if self.next:
            self.next.write(strip.first // 2, *halve(strip.pixels, strip.mask, self.spec.nodata, self.spec.alpha))

    def _file(self, kind: str, first: int) -> Path:
        return self.parts / f"{kind}-{self.number}-{first:08d}.tif"


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
        raise RasterError(f"{path} exists already: give --overwrite to replace it, or name another output.")


def check_room(path: Path, spec: OutputSpec) -> None:
    """Raises RasterError where the pixels would outgrow the disk even if they were written only once."""
    free = shutil.disk_usage(path.parent).free
    if spec.raw_bytes > free:
        raise RasterError(f"{path} would hold {spec.grid.height} x {spec.grid.width} pixels or "
                          f"{spec.raw_bytes / 1e9:.3g} GB, and the disk has {free / 1e9:.3g} GB free: choose coarser "
                          "pixels, a part, or another disk.")


def same_file(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    """Whether both paths name one existing file."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _write_strip(path: Path, pixels: np.ndarray, bits: int | None = None) -> tuple[dict[int, Tag], Strip]:
    """Whole tiles, compressed as they will be in the output. What is read back proves that they are on disk."""
    count, height, width = pixels.shape
    options = dict(driver="GTiff", dtype=pixels.dtype, count=count, height=height, width=width,
                   **_tile_options(str(pixels.dtype), bits))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as out:
            out.write(pixels)
    tags, strip = read_strip(path)
    if path.stat().st_size < max(offset + size for offset, size in zip(strip.offsets, strip.sizes)):
        raise OSError(28, "No space left on device")
    return tags, strip


def _tile_options(dtype: str, bits: int | None = None) -> dict[str, str | int]:
    """How tiles are coded; `bits` a sample, where these are fewer than the dtype's."""
    predictor = 3 if np.dtype(dtype).kind == "f" else 2
    return dict(tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="zstd", zstd_level=1, interleave="pixel",
                num_threads="all_cpus", endianness="little", bigtiff="if_safer",
                **(dict(nbits=bits) if bits else dict(predictor=predictor)))


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


def write_png(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """An RGB picture (3,h,w) uint8 as a PNG file."""
    Path(path).write_bytes(encode_picture(rgb, "PNG"))


def encode_picture(rgb: np.ndarray, driver: str) -> bytes:
    """An RGB picture (3,h,w) uint8 as the bytes of a PNG or JPEG file."""
    options = {"quality": 88} if driver == "JPEG" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.io.MemoryFile() as memory:
            with memory.open(driver=driver, count=3, height=rgb.shape[1], width=rgb.shape[2], dtype="uint8",
                             **options) as out:
                out.write(rgb)
            return bytes(memory.getbuffer())
