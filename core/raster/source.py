"""Rasters as rows of pixels, read once, top to bottom, by a thread that decodes ahead.

rasterio is used here, in `opening` and `blocks`, and in `strips` and `pictures`, which write; no other file knows it.
"""

import contextlib
import itertools
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from ..grid import Grid, Window, angular_convention
from .bands import Band, Statistics
from .opening import DAMAGE, Handles, handles
from .reader import RasterWindows
from .remote import patient
from .rows import Rows, pieces, prefetched
from .security import STANDARD, Limits

_READ_BYTES, _PIECE_BYTES, _HELD_BYTES, _CACHE_BYTES = 2 << 20, 8 << 20, 64 << 20, 512 << 20
_LEAST_CACHE_BYTES = 8 << 20
_FARTHEST = 1e15
_LEAST_POWER = 1e-6  # below which a power counts as this much: -60 dB


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
    handles: Handles = field(default=None, repr=False, compare=False)
    """The file that it is read from."""
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
        return _header(handles(os.fspath(path), limits), bands)

    def select(self, bands: tuple[int, ...]) -> "RasterSource":
        """The same raster with other bands."""
        return _header(self.handles, bands)

    @classmethod
    def _header(cls, file: Handles, bands: tuple[int, ...] | None) -> "RasterSource":
        path = file.path
        with file.borrow() as data:
            alpha = next((i for i, c in zip(data.indexes, data.colorinterp) if c == ColorInterp.alpha), None)
            indexes = _choose(path, bands, [i for i in data.indexes if i != alpha], data.count)
            every = data.dtypes
            dtypes = {every[i - 1] for i in indexes}
            if any(np.dtype(d).kind == "c" for d in dtypes):
                raise RasterError(f"{path} holds complex numbers ({', '.join(sorted(dtypes))}): "
                                  "convert it to amplitude or decibel first.")
            crs = data.crs.to_wkt(version="WKT2_2019") if data.crs else None
            if crs and crs.startswith('ENGCRS["unnamed"'):  # what GDAL makes up for pixels that are points on no map
                crs = None
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
                handles=file,
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
        with contextlib.closing(prefetched(self._read_pieces(window, itertools.pairwise(edges)), held)) as reads:
            for read in reads:
                yield from pieces(read, piece_rows)
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
        with self.handles.borrow() as data, contextlib.suppress(OSError):
            return min(1.0, sum(os.stat(name).st_size for name in data.files) / raw)
        return 1.0

    def _reading(self, width: int) -> tuple[int, int, int]:
        """Rows read at a time, reads held at a time, and bytes of a row."""
        step = max(self.block_shape[0], 1)
        row_bytes = width * len(self.indexes) * np.dtype(self.dtype).itemsize
        step *= max(1, min(1024 // step, _READ_BYTES // max(step * row_bytes, 1)))
        return step, min(4, max(2, _HELD_BYTES // (step * row_bytes))), row_bytes

    def _read_pieces(self, window: Window, parts: Iterable[tuple[int, int]]) -> Iterator[Rows]:
        for first, stop in parts:
            rows = self.read_piece(RioWindow(window.col, first, window.width, stop - first))
            yield replace(rows, row=first - window.row)

    @patient
    def read_piece(self, part: RioWindow) -> Rows:
        """A part of the raster, read by this thread; `row` counts from the raster's first."""
        with self.handles.borrow() as data:
            return self.piece(data, part)

    def piece(self, data: rasterio.DatasetReader, part: RioWindow) -> Rows:
        """A part of the opened raster; `row` counts from the raster's first."""
        if self.stored:
            return _as_decibels(self.stored.piece(data, part), self.stored.bands)
        try:
            pixels = data.read(self.indexes, window=part, out_dtype=self.dtype)
            return Rows(int(part.row_off), pixels, self._mask(data, pixels, part))
        except DAMAGE as error:
            last = int(part.row_off + part.height) - 1
            raise RasterError(f"{self.path} cannot be read at rows {int(part.row_off)} to {last}: the file is "
                              "damaged or cut off. Copy or download it again.") from error

    def stamps(self) -> dict[str, Any]:
        """What changes when the raster's files do: their sizes and times, or a checksum where they have none."""
        with self.handles.borrow() as data:
            with contextlib.suppress(OSError):
                files = [(absolute(name), os.stat(name)) for name in data.files or [self.path]]
                return {name: [status.st_size, status.st_mtime_ns] for name, status in files}
            # Not on this disk: what the first and the last block hold.
            parts = self.piece(data, _corner(data, 0, 0)), self.piece(data, _corner(data, -1, -1))
            return {self.path: [zlib.crc32(rows.pixels.tobytes()) for rows in parts]}

    def windows(self, rows_held: int) -> RasterWindows:
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
        with self.handles.borrow() as data:
            try:
                whole_rows, cache = _decoding(data, shape)
                with rasterio.Env(GDAL_CACHEMAX=cache):
                    if not whole_rows:
                        return self._decimated_by_columns(data, shape)
                    pixels = data.read(self.indexes, out_shape=(len(self.indexes), *shape), out_dtype=self.dtype)
                    whole = RioWindow(0, 0, self.grid.width, self.grid.height)
                    return Rows(0, pixels, self._mask(data, pixels, whole, shape))
            except rasterio.errors.RasterioError as error:
                raise RasterError(f"{self.path} cannot be read: the file is damaged or cut off. "
                                  "Copy or download it again.") from error

    def _decimated_by_columns(self, data: rasterio.DatasetReader, shape: tuple[int, int]) -> Rows:
        """As `decimated`, one column of blocks after the other, where a whole row of them is too much for the cache."""
        rows, cols = (((np.arange(count) + 0.5) * (size / count)).astype(int)
                      for count, size in zip(shape, (self.grid.height, self.grid.width)))
        step = data.block_shapes[0][1]
        columns = []
        for left in range(0, self.grid.width, step):
            here = cols[(cols >= left) & (cols < left + step)] - left
            lines = (self.piece(data, RioWindow(left, int(row), min(step, self.grid.width - left), 1))
                     for row in rows if here.size)
            thin = [replace(line, row=0, pixels=line.pixels[:, :, here], mask=None if line.mask is None
                            else line.mask[:, :, here]) for line in lines]
            columns += [Rows.concatenate(thin)] if thin else []
        return Rows.concatenate(columns, axis=2)

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


@patient
def _header(file: Handles, bands: tuple[int, ...] | None) -> RasterSource:
    return RasterSource._header(file, bands)


def _check_place(path: str, transform: Affine) -> None:
    """Raises RasterError where pixels have no place, or places have no pixel."""
    numbers = transform.to_gdal()
    largest = max(abs(number) for number in numbers)
    if not all(map(math.isfinite, numbers)) or largest >= _FARTHEST or abs(transform.determinant) < _FARTHEST**-2:
        raise RasterError(f"{path} has a geotransform that makes no grid ({', '.join(f'{n:g}' for n in numbers)}): set "
                          "another, for example with gdal_edit -a_ullr.")


def absolute(path: str) -> str:
    """A file's path from the root; any other GDAL name as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _decoding(data: rasterio.DatasetReader, shape: tuple[int, int]) -> tuple[bool, int]:
    """Whether to read a raster in whole rows to make it small, and the bytes of cache with which GDAL then decodes
    every block once: those of a row of blocks, or of one block where that is too much."""
    if data.driver == "VRT":  # its blocks are not those that are decoded, and to ask for overviews opens its sources
        return True, _CACHE_BYTES >> 2
    (rows, cols), overviews = data.block_shapes[0], data.overviews(1)
    if overviews and overviews[0] > 0 and data.width // overviews[0] >= shape[1]:
        return True, _CACHE_BYTES  # GDAL takes an overview
    block = rows * cols * sum(np.dtype(dtype).itemsize for dtype in data.dtypes)
    row = block * -(-data.width // cols)
    whole_rows = row <= _CACHE_BYTES
    return whole_rows, max(_LEAST_CACHE_BYTES, (row if whole_rows else block) * 5 // 4)


def _corner(data: rasterio.DatasetReader, down: int, across: int) -> RioWindow:
    """The first or the last block."""
    rows, cols = data.block_shapes[0]
    top, left = (((size - 1) // block * block if end else 0)
                 for size, block, end in ((data.height, rows, down), (data.width, cols, across)))
    return RioWindow(left, top, min(cols, data.width - left), min(rows, data.height - top))


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
