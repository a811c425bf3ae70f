"""Rasters as rows of pixels, read once, top to bottom, by a thread that decodes ahead.

rasterio is used in this room, and in `strips`, `readback` and `pictures`, which write; no other file knows it.
"""

import contextlib
import itertools
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window as RioWindow

from ..grid import Grid, Window
from .bands import Band, Domains, Statistics
from .decimated import decode_small, decode_valid
from .decoding import as_decibels, decode_part, reading_of
from .header import choose_indexes, common_dtype, mask_kinds, read_bands, read_grid
from .limits import STANDARD, Limits
from .metadata import read_domains
from .opening import Handles, handles
from .reader import RasterWindows
from .remote import with_retries
from .rows import Rows, pieces, prefetched
from .statistics import gather_statistics

_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class RasterSource:
    """A raster that can be read: what it is, and its rows. Make one with `RasterSource.open`."""

    path: str
    grid: Grid
    bands: tuple[Band, ...]
    dtype: str
    mask_kinds: tuple[str, ...]
    """Any of "nodata" (values; NaN is always without data), "mask" (a mask band) and "alpha"."""
    indexes: tuple[int, ...]
    """1-based positions of the bands in the file."""
    alphas: tuple[int, ...] = ()
    """1-based positions of the alpha bands."""
    alpha_bands: tuple[Band, ...] = ()
    domains: Domains = field(default_factory=lambda: {"": {}})
    dtypes: tuple[str, ...] = ()
    """Those of the bands, which `dtype` holds."""
    structure: dict[str, str] = field(default_factory=dict)
    """How the file stores pixels, as GDAL has it in IMAGE_STRUCTURE."""
    block_shape: tuple[int, int] = (512, 512)
    handles: Handles = field(repr=False, compare=False, kw_only=True)
    """The file that it is read from."""
    stored: "RasterSource | None" = None
    """The same raster of power as it is stored, where this one shows it in decibels."""

    def in_decibels(self) -> "RasterSource":
        """A raster of power, seen in decibels: 10 log10, from -60 on."""
        bands = tuple(replace(band, unit="dB", scale=1.0, offset=0.0, nodata=None) for band in self.bands)
        return replace(self, bands=bands, dtype="float32", stored=self)

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.domains[""])

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
        return _read_header(handles(os.fspath(path), limits), bands)

    def select(self, bands: tuple[int, ...]) -> "RasterSource":
        """The same raster with other bands."""
        return _read_header(self.handles, bands)

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """The rows of a window (by default all), top to bottom, decoded ahead by one thread.

        Whole rows of blocks are read at a time, so that every block is decoded once, and handed on in
        pieces of a few MB. Row numbers count from the window's first row.

        Args:
            part: which rows of the window, first and one past the last; by default all.
        """
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        first, stop = (window.row + row for row in part or (0, window.height))
        step, held, row_bytes = reading_of(self, window.width)
        edges = [first, *range((first // step + 1) * step, stop, step), stop]
        piece_rows = max(64, _PIECE_BYTES // row_bytes)
        with contextlib.closing(prefetched(self._read_pieces(window, itertools.pairwise(edges)), held)) as reads:
            for read in reads:
                yield from pieces(read, piece_rows)
                del read  # or it would be held until the next one is there

    def reading_bytes(self, width: int) -> int:
        """Memory that `rows` of this width hold."""
        step, held, row_bytes = reading_of(self, width)
        return min(step, self.grid.height) * (held + 1) * row_bytes

    def rows_at_once(self, width: int) -> int:
        """How many rows of this width `rows` gives at a time, at most."""
        return min(reading_of(self, width).rows, self.grid.height)

    def compressed(self) -> float:
        """The share of its raw size that the raster takes on disk; 1 where nobody knows."""
        raw = self.grid.height * self.grid.width * len(self.indexes) * np.dtype(self.dtype).itemsize
        with self.handles.borrow() as data, contextlib.suppress(OSError):
            return min(1.0, sum(os.stat(name).st_size for name in data.files) / raw)
        return 1.0

    def _read_pieces(self, window: Window, parts: Iterable[tuple[int, int]]) -> Generator[Rows]:
        for first, stop in parts:
            rows = self.read_piece(RioWindow(window.col, first, window.width, stop - first))
            yield replace(rows, row=first - window.row)

    @with_retries
    def read_piece(self, part: RioWindow) -> Rows:
        """A part of the raster, read by this thread; `row` counts from the raster's first."""
        with self.handles.borrow() as data:
            return self.piece(data, part)

    def piece(self, data: DatasetReader, part: RioWindow) -> Rows:
        """A part of the opened raster; `row` counts from the raster's first."""
        if self.stored:
            return as_decibels(self.stored.piece(data, part), self.stored.bands)
        return decode_part(self, data, part)

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

    @with_retries
    def decimated(self, longest: int = 1024) -> Rows:
        """The whole raster read at reduced size (nearest pixel), for statistics and quicklooks."""
        if self.stored:
            return as_decibels(self.stored.decimated(longest), self.stored.bands)
        with self.handles.borrow() as data:
            return decode_small(self, data, longest)

    @with_retries
    def valid(self, longest: int = 1024) -> np.ndarray | None:
        """Where all bands of `decimated` have data, (h,w) bool; None: everywhere. What cannot tell is not read."""
        with self.handles.borrow() as data:
            return decode_valid(self.stored or self, data, longest)

    def statistics(self, percentiles: tuple[float, ...] = (), ranges: tuple[tuple[float, float], ...] = ()
                   ) -> Statistics:
        """Per-band statistics of valid pixels, in physical units; see `gather_statistics`."""
        return gather_statistics(self, percentiles, ranges)


@with_retries
def _read_header(file: Handles, bands: tuple[int, ...] | None) -> RasterSource:
    path = file.path
    with file.borrow() as data:
        indexes, alphas = choose_indexes(path, data, bands)
        every = read_bands(path, data, (*indexes, *alphas))
        chosen, alpha_bands = every[:len(indexes)], every[len(indexes):]
        return RasterSource(
            path=path,
            dtype=common_dtype(path, data, (*indexes, *alphas)),
            grid=read_grid(path, data),
            bands=chosen,
            mask_kinds=mask_kinds(data, indexes, chosen, alphas),
            indexes=indexes,
            alphas=alphas,
            alpha_bands=alpha_bands,
            domains=read_domains(data),
            dtypes=tuple(data.dtypes[i - 1] for i in (*indexes, *alphas)),
            structure=data.tags(ns="IMAGE_STRUCTURE") | data.tags(indexes[0], ns="IMAGE_STRUCTURE"),
            block_shape=data.block_shapes[0],
            handles=file,
        )


def absolute(path: str) -> str:
    """A file's path from the root; any other GDAL name as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _corner(data: DatasetReader, down: int, across: int) -> RioWindow:
    """The first or the last block."""
    rows, cols = data.block_shapes[0]
    top, left = (((size - 1) // block * block if end else 0)
                 for size, block, end in ((data.height, rows, down), (data.width, cols, across)))
    return RioWindow(left, top, min(cols, data.width - left), min(rows, data.height - top))
