"""Rasters as rows of pixels, read once, top to bottom, by a thread that decodes ahead.

This file and `sink.py`, which writes, are the only users of rasterio.
"""

import contextlib
import itertools
import math
import os
import queue
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RioWindow

from .bands import Band, Statistics
from .errors import RasterError
from .grid import Grid, Window, angular_convention
from .remote import gdal_path, patient, remote_settings
from .trust import STANDARD, Limits, Opening, check_opened, look_at

# Python pixel functions in a VRT would be code from the input file. The threads in which GDAL reads a VRT by itself
# do not know the settings of ours.
GDAL_SETTINGS = {"GDAL_VRT_ENABLE_PYTHON": "NO", "VRT_NUM_THREADS": "1", "GDAL_NUM_THREADS": "ALL_CPUS",
                 "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,WORLDFILE", "GDAL_CACHEMAX": 8 << 20}  # bytes
# What rasterio raises over a file that is damaged on purpose or by accident, texts that are no UTF-8 included.
_DAMAGE = (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError, UnicodeDecodeError)
_READ_BYTES, _PIECE_BYTES, _HELD_BYTES, _BLOCK_PX = 2 << 20, 8 << 20, 64 << 20, 512
_FARTHEST = 1e15
_LEAST_POWER = 1e-6  # below which a power counts as this much: -60 dB
HELD_BYTES = 256 << 20
"""Memory for the blocks of a raster that is read in windows."""


@dataclass(frozen=True)
class Rows:
    """A band of rows as stored: `pixels` (C,h,W) and `mask` (1 or C,h,W), 0 where there is no data.

    `mask` is None where every pixel is valid. For an alpha band it holds the alpha values.
    """

    row: int
    pixels: np.ndarray
    mask: np.ndarray | None
    undefined: int = 0
    """Pixels that have no position in the raster they come from."""


@dataclass(frozen=True)
class RasterSource:
    """A raster that can be read: what it is, and its rows. Make one with `RasterSource.open`."""

    path: str
    grid: Grid
    bands: tuple[Band, ...]
    dtype: str
    mask_kind: str
    """"none", "nodata" (values, NaN included), "mask" (a mask band) or "alpha"."""
    indexes: tuple[int, ...]
    """1-based positions of the bands in the file."""
    alpha: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    band_tags: tuple[dict[str, str], ...] = ()
    block_shape: tuple[int, int] = (512, 512)
    limits: Limits = STANDARD
    stored: "RasterSource | None" = None
    """The same raster of power as it is stored, where this one shows it in decibels."""

    def in_decibels(self) -> "RasterSource":
        """A raster of power, seen in decibels: 10 log10, from -60 on."""
        bands = tuple(replace(band, unit="dB", scale=1.0, offset=0.0, nodata=None) for band in self.bands)
        return replace(self, bands=bands, dtype="float32", stored=self)

    @property
    def original(self) -> "RasterSource":
        """The raster on the disk: this one."""
        return self

    @classmethod
    def open(cls, path: str | os.PathLike, bands: tuple[int, ...] | None = None,
             limits: Limits = STANDARD) -> "RasterSource":
        """Reads the header of a raster and checks that it can be used.

        Args:
            path: file or GDAL virtual path.
            bands: 1-based positions; by default all bands but alpha.
            limits: how far the file is trusted; it holds whenever the raster is opened again.

        Raises:
            RasterError: with a sentence for every raster that cannot be translated.
        """
        return _header(os.fspath(path), bands, limits)

    @classmethod
    def _header(cls, path: str, bands: tuple[int, ...] | None, limits: Limits) -> "RasterSource":
        with _opened(path, limits) as data:
            alpha = next((i for i, c in zip(data.indexes, data.colorinterp) if c == ColorInterp.alpha), None)
            indexes = _choose(path, bands, [i for i in data.indexes if i != alpha], data.count)
            every = data.dtypes
            dtypes = {every[i - 1] for i in indexes}
            if any(np.dtype(d).kind == "c" for d in dtypes):
                raise RasterError(f"{path} holds complex numbers ({', '.join(sorted(dtypes))}): "
                                  "convert it to amplitude or decibel first.")
            crs = data.crs.to_wkt(version="WKT2_2019") if data.crs else None
            transform, tags = data.transform, data.tags()
            if transform.is_identity and data.gcps[0]:
                raise RasterError(
                    f"{path} is placed by {len(data.gcps[0])} ground control points and has no map grid: "
                    "rectify it first, for example with gdalwarp -t_srs.")
            if transform.is_identity and data.rpcs:
                raise RasterError(f"{path} is placed by a rational polynomial (RPC) and has no map grid: "
                                  "orthorectify it first, for example with gdalwarp -rpc.")
            _check_place(path, transform)
            latitude, longitude = angular_convention(crs, tags)
            # Each of these asks for every band: once, as a file may claim 65535.
            facts = list(zip(data.descriptions, data.units, data.scales, data.offsets, data.nodatavals,
                             (colour.name for colour in data.colorinterp)))
            scales = {k: facts[k - 1][2:4] for k in indexes}
            bad = next((k for k, (scale, offset) in scales.items() if not (scale and math.isfinite(scale + offset))), 0)
            if bad:
                raise RasterError(f"Band {bad} of {path} has a scale of {scales[bad][0]:g} and an offset of "
                                  f"{scales[bad][1]:g}, which give no values: set others with gdal_edit -scale "
                                  "-offset.")
            return cls(
                path=path,
                grid=Grid(crs, transform, data.height, data.width, latitude, longitude),
                bands=tuple(Band(*facts[i - 1]) for i in indexes),
                dtype=str(np.result_type(*dtypes)),
                mask_kind=_mask_kind(data, indexes, alpha),
                indexes=indexes,
                alpha=alpha,
                tags=tags,
                band_tags=tuple(data.tags(i) for i in indexes),
                block_shape=data.block_shapes[0],
                limits=limits,
            )

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """The rows of a window (by default all), top to bottom, decoded ahead by one thread.

        Whole rows of blocks are read at a time, so that every block is decoded once, and handed on in
        pieces of a few MB. Row numbers count from the window's first row.

        Args:
            part: which rows of the window, first and one past the last; by default all.
        """
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        first, stop = (window.row + row for row in part or (0, window.height))
        step, held, row_bytes = self._reading(window.width)
        edges = [first, *range((first // step + 1) * step, stop, step), stop]
        piece_rows = max(64, _PIECE_BYTES // row_bytes)
        with contextlib.closing(_prefetched(self._read_pieces(window, itertools.pairwise(edges)), held)) as reads:
            for read in reads:
                yield from _pieces(read, piece_rows)
                del read  # or it would be held until the next one is there

    def reading_bytes(self, width: int) -> int:
        """Memory that `rows` of this width hold."""
        step, held, row_bytes = self._reading(width)
        return min(step, self.grid.height) * (held + 1) * row_bytes

    def rows_at_once(self, width: int) -> int:
        """How many rows of this width `rows` gives at a time, at most."""
        return min(self._reading(width)[0], self.grid.height)

    def compressed(self) -> float:
        """The share of its raw size that the raster takes on disk; 1 where nobody knows."""
        raw = self.grid.height * self.grid.width * len(self.indexes) * np.dtype(self.dtype).itemsize
        with _opened(self.path, self.limits) as data, contextlib.suppress(OSError):
            return min(1.0, sum(os.stat(name).st_size for name in data.files) / raw)
        return 1.0

    def _reading(self, width: int) -> tuple[int, int, int]:
        """Rows read at a time, reads held at a time, and bytes of a row."""
        step = max(self.block_shape[0], 1)
        row_bytes = width * len(self.indexes) * np.dtype(self.dtype).itemsize
        step *= max(1, min(1024 // step, _READ_BYTES // max(step * row_bytes, 1)))
        return step, min(4, max(2, _HELD_BYTES // (step * row_bytes))), row_bytes

    def _read_pieces(self, window: Window, pieces: Iterable[tuple[int, int]]) -> Iterator[Rows]:
        with contextlib.closing(_Reader(self)) as reader:
            for first, stop in pieces:
                rows = reader.piece(RioWindow(window.col, first, window.width, stop - first))
                yield replace(rows, row=first - window.row)

    def piece(self, data: rasterio.DatasetReader, part: RioWindow) -> Rows:
        """A part of the opened raster; `row` counts from the raster's first."""
        if self.stored:
            return _as_decibels(self.stored.piece(data, part), self.stored.bands)
        try:
            pixels = data.read(self.indexes, window=part, out_dtype=self.dtype)
            return Rows(int(part.row_off), pixels, self._mask(data, pixels, part))
        except _DAMAGE as error:
            last = int(part.row_off + part.height) - 1
            raise RasterError(f"{self.path} cannot be read at rows {int(part.row_off)} to {last}: the file is "
                              "damaged or cut off. Copy or download it again.") from error

    def stamps(self) -> dict[str, Any]:
        """What changes when the raster's files do: their sizes and times, or a checksum where they have none."""
        with _opened(self.path, self.limits) as data:
            with contextlib.suppress(OSError):
                files = [(absolute(name), os.stat(name)) for name in data.files or [self.path]]
                return {name: [status.st_size, status.st_mtime_ns] for name, status in files}
            # Not on this disk: what the first and the last block hold.
            parts = self.piece(data, _corner(data, 0, 0)), self.piece(data, _corner(data, -1, -1))
            return {self.path: [zlib.crc32(rows.pixels.tobytes()) for rows in parts]}

    def windows(self, rows_held: int) -> "RasterWindows":
        """Windows of the raster in any order; a file needs no rows to be held."""
        return RasterWindows(self)

    def read(self, window: Window) -> Rows:
        """One window of the raster, for sampling; the whole window must lie inside."""
        with contextlib.closing(self._read_pieces(window, [(window.row, window.row + window.height)])) as rows:
            return next(iter(rows))

    @patient
    def decimated(self, longest: int = 1024) -> Rows:
        """The whole raster read at reduced size (nearest pixel), for statistics and quicklooks."""
        if self.stored:
            return _as_decibels(self.stored.decimated(longest), self.stored.bands)
        factor = max(1.0, max(self.grid.height, self.grid.width) / longest)
        shape = (max(1, round(self.grid.height / factor)), max(1, round(self.grid.width / factor)))
        with _opened(self.path, self.limits) as data:
            try:
                pixels = data.read(self.indexes, out_shape=(len(self.indexes), *shape), out_dtype=self.dtype)
                whole = RioWindow(0, 0, self.grid.width, self.grid.height)
                return Rows(0, pixels, self._mask(data, pixels, whole, shape))
            except rasterio.errors.RasterioError as error:
                raise RasterError(f"{self.path} cannot be read: the file is damaged or cut off. "
                                  "Copy or download it again.") from error

    @np.errstate(over="ignore", invalid="ignore")  # of numbers that mean nothing, 1e300 say
    def statistics(self, percentiles: tuple[float, ...] = ()) -> Statistics:
        """Per-band statistics in physical units of the valid pixels of one decimated read.

        A band whose valid pixels that read misses is searched whole; one without any has NaN.

        Raises:
            RasterError: if no band has a valid pixel.
        """
        sample = self.decimated()
        values = [_valid_values(sample, k) for k in range(len(self.bands))]
        missed = [k for k, found in enumerate(values) if not found.size]
        if missed:
            for rows in self.rows():
                for k in missed:
                    values[k] = np.append(values[k], _valid_values(rows, k)[:100_000])
        if not any(found.size for found in values):
            raise RasterError(f"{self.path} has no valid pixel in the chosen bands: everything is nodata or "
                              "masked, so there is nothing to translate.")
        columns = []
        for found, band in zip(values, self.bands):
            physical = found * band.scale + band.offset if found.size else np.array([np.nan])
            columns.append((physical.mean(), physical.std(), *(np.percentile(physical, q) for q in percentiles)))
        mean, std, *found = (tuple(float(v) for v in column) for column in zip(*columns))
        return Statistics(mean, std, dict(zip(percentiles, found)), sample.pixels.shape[1:])

    def _mask(self, data, pixels: np.ndarray, part: RioWindow, shape=None) -> np.ndarray | None:
        """The validity of `pixels`; None where all are valid."""
        size = {"out_shape": shape} if shape else {}
        if self.mask_kind == "alpha":
            mask = data.read([self.alpha], window=part, **({"out_shape": (1, *shape)} if shape else {}))
        elif self.mask_kind == "mask":
            mask = data.read_masks(self.indexes[0], window=part, **size)[None]
        elif self.mask_kind == "nodata":
            mask = np.full(pixels.shape, 255, np.uint8)
            for k, band in enumerate(self.bands):
                if band.nodata is not None and not math.isnan(band.nodata):
                    mask[k][pixels[k] == np.asarray(band.nodata).astype(pixels.dtype)] = 0
        else:
            mask = None
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            if not finite.all():
                mask = finite * np.uint8(255) if mask is None else mask * finite
        return mask


def _as_decibels(rows: Rows, bands: tuple[Band, ...]) -> Rows:
    scale, offset = (np.array(v, "float32")[:, None, None] for v in zip(*((b.scale, b.offset) for b in bands)))
    power = np.maximum(rows.pixels.astype("float32") * scale + offset, _LEAST_POWER)
    return replace(rows, pixels=10 * np.log10(power))


class _Reader:
    """A raster that is open, for one thread."""

    def __init__(self, source: RasterSource):
        self.source, self.path = source, source.path
        self.settings, self.opening = _prepared(source.path, source.limits)
        self.data: rasterio.DatasetReader | None = None

    @patient
    def piece(self, part: RioWindow) -> Rows:
        """As `RasterSource.piece`."""
        # Not for as long as the file is open: these settings belong to a thread, and another one may close it.
        with rasterio.Env(**self.settings):
            if self.data is None:
                self.data = _open(self.path, self.opening, self.source.limits)
            try:
                return self.source.piece(self.data, part)
            except RasterError:
                self.close()
                raise

    def close(self) -> None:
        if self.data is not None:
            self.data.close()
            self.data = None


def _prepared(path: str, limits: Limits) -> tuple[dict[str, Any], Opening]:
    """GDAL's settings for a raster, and how it may be opened."""
    opening = look_at(gdal_path(path), limits)
    return GDAL_SETTINGS | remote_settings(path) | opening.settings, opening


@patient
def _header(path: str, bands: tuple[int, ...] | None, limits: Limits) -> RasterSource:
    return RasterSource._header(path, bands, limits)


@contextlib.contextmanager
def _opened(path: str, limits: Limits) -> Iterator[rasterio.DatasetReader]:
    settings, opening = _prepared(path, limits)
    with rasterio.Env(**settings), _open(path, opening, limits) as data:
        try:
            yield data
        except _DAMAGE as error:
            raise _unreadable(path, error) from error


def _open(path: str, opening: Opening, limits: Limits) -> rasterio.DatasetReader:
    """Opens for reading, with one sentence for each way this can fail."""
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as until_checked:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            data = rasterio.DatasetReader(opening.name, driver=opening.drivers)
            until_checked.callback(data.close)
            check_opened(data, path, limits)
            for source, drivers in opening.sources:
                with rasterio.DatasetReader(source, driver=drivers) as other:
                    check_opened(other, source, limits)
            until_checked.pop_all()
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if data.count == 0:
        first = (data.subdatasets or ["-"])[0]
        raise RasterError(f"{path} has no bands of its own: it holds {len(data.subdatasets)} sub-datasets; name one, "
                          f"for example {first}.")
    return data


def _unreadable(path: str, error: Exception) -> RasterError:
    reason = "".join(c if c.isprintable() else "?" for c in str(error))  # may quote bytes of the file
    return RasterError(f"{path} is not a raster that GDAL can read, or not of a format that is safe to read, or it is "
                       f"damaged ({reason}): check the path, copy the file again, or convert it to GeoTIFF with "
                       "gdal_translate.")


class RasterWindows:
    """Windows of a raster in any order and from several threads; blocks are decoded once while they are held.

    Use as a context manager: it keeps one open file for each thread.
    """

    def __init__(self, source: RasterSource, held_bytes: int = HELD_BYTES):
        self.source = source
        grid = source.grid
        # Whole blocks, several of them where they are small or strips.
        rows, cols = (min(size, block * -(-_BLOCK_PX // block))
                      for size, block in zip((grid.height, grid.width), source.block_shape))
        self.rows, self.cols = max(1, rows), max(1, cols)
        depth = len(source.indexes) * np.dtype(source.dtype).itemsize + (source.mask_kind != "none")
        self.most = max(4, held_bytes // (self.rows * self.cols * depth))
        self._held: OrderedDict[tuple[int, int], Future] = OrderedDict()
        self._lock, self._local, self._files = threading.Lock(), threading.local(), []

    def __enter__(self) -> "RasterWindows":
        return self

    def __exit__(self, *_) -> None:
        self._held.clear()
        for reader in self._files:
            reader.close()

    def read(self, window: Window) -> Rows:
        """A window that lies inside the raster."""
        shape = len(self.source.indexes), window.height, window.width
        pixels, mask = np.empty(shape, self.source.dtype), None
        for down in range(window.row // self.rows, (window.row + window.height - 1) // self.rows + 1):
            for across in range(window.col // self.cols, (window.col + window.width - 1) // self.cols + 1):
                block = self._block(down, across)
                top, left = down * self.rows, across * self.cols
                rows = slice(max(window.row, top), min(window.row + window.height, top + block.pixels.shape[1]))
                cols = slice(max(window.col, left), min(window.col + window.width, left + block.pixels.shape[2]))
                here = (slice(None), *(slice(s.start - o, s.stop - o) for s, o in zip((rows, cols), (top, left))))
                there = (slice(None), *(slice(s.start - o, s.stop - o)
                                        for s, o in zip((rows, cols), (window.row, window.col))))
                pixels[there] = block.pixels[here]
                if block.mask is not None:
                    mask = np.full((block.mask.shape[0], *shape[1:]), 255, block.mask.dtype) if mask is None else mask
                    mask[there] = block.mask[here]
        return Rows(window.row, pixels, mask)

    def _block(self, down: int, across: int) -> Rows:
        """One block, read by the first thread that asks; others that ask meanwhile wait for it."""
        key = down, across
        with self._lock:
            future = self._held.get(key)
            mine = future is None
            if mine:
                future = self._held[key] = Future()
                while len(self._held) > self.most:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(key)
        if mine:
            try:
                future.set_result(self._decode(down * self.rows, across * self.cols))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _decode(self, row: int, col: int) -> Rows:
        grid = self.source.grid
        part = RioWindow(col, row, min(self.cols, grid.width - col), min(self.rows, grid.height - row))
        if not hasattr(self._local, "reader"):
            self._local.reader = _Reader(self.source)
            self._files.append(self._local.reader)
        return self._local.reader.piece(part)


def _check_place(path: str, transform: Affine) -> None:
    """Raises RasterError where pixels have no place, or places have no pixel."""
    numbers = transform.to_gdal()
    largest = max(abs(number) for number in numbers)
    if not largest < _FARTHEST or abs(transform.determinant) < _FARTHEST**-2:
        raise RasterError(f"{path} has a geotransform that makes no grid ({', '.join(f'{n:g}' for n in numbers)}): set "
                          "another, for example with gdal_edit -a_ullr.")


def absolute(path: str) -> str:
    """A file's path from the root; any other GDAL name as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _corner(data: rasterio.DatasetReader, down: int, across: int) -> RioWindow:
    """The first or the last block."""
    rows, cols = data.block_shapes[0]
    top, left = (((size - 1) // block * block if end else 0)
                 for size, block, end in ((data.height, rows, down), (data.width, cols, across)))
    return RioWindow(left, top, min(cols, data.width - left), min(rows, data.height - top))


def _pieces(rows: Rows, height: int) -> Iterator[Rows]:
    for first in range(0, rows.pixels.shape[1], height):
        part = slice(first, first + height)
        yield Rows(rows.row + first, rows.pixels[:, part], None if rows.mask is None else rows.mask[:, part])


def _valid_values(rows: Rows, band: int) -> np.ndarray:
    """The valid stored values of one band, as float64."""
    values = rows.pixels[band].astype(np.float64)
    return values.ravel() if rows.mask is None else values[rows.mask[band if rows.mask.shape[0] > 1 else 0] != 0]


def _choose(path: str, wanted: tuple[int, ...] | None, usable: list[int], count: int) -> tuple[int, ...]:
    if wanted is None:
        wanted = tuple(usable)
    if not wanted:
        raise RasterError(f"No band of {path} is chosen: name at least one of 1 to {count} with --bands.")
    wrong = [i for i in wanted if not 1 <= i <= count]
    if wrong:
        raise RasterError(f"{path} has no band {wrong[0]}: choose from 1 to {count} with --bands.")
    return tuple(wanted)


def _mask_kind(data, indexes: tuple[int, ...], alpha: int | None) -> str:
    flags = data.mask_flag_enums[indexes[0] - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return "mask"
    values = data.nodatavals
    if any(values[i - 1] is not None for i in indexes):
        return "nodata"
    # GDAL's own mask follows an alpha band only in rasters of two or four bands; we do in all.
    return "none" if alpha is None else "alpha"


def _prefetched(items: Iterator[Rows], held: int) -> Iterator[Rows]:
    """Runs an iterator in a thread; `held` items are there at most, with the one in use and the one being made.

    Closing the result stops the thread.
    """
    ready: queue.SimpleQueue = queue.SimpleQueue()
    room, stopped = threading.Semaphore(held), threading.Event()

    def work() -> None:
        try:
            with contextlib.closing(items):
                while room.acquire() and not stopped.is_set() and (item := next(items, None)) is not None:
                    ready.put((item, None))
                    del item  # or it would live until the next one is there
            ready.put((None, None))
        except BaseException as error:
            ready.put((None, error))

    thread = threading.Thread(target=work, name="geoi2i-read", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
            del item
            room.release()
    finally:
        stopped.set()
        room.release()
        thread.join()
