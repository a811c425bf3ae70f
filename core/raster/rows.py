"""Rows of pixels as they go from raster to raster, and a thread that makes them ahead."""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..grid import Grid, Window
from .bands import Band, Domains, Statistics

Wanted = Callable[[Window], bool]
"""Whether any pixel of a window is of use to whoever asks for rows; what stands in the others does not matter then. The
window may reach beyond the raster."""


def numpy_dtype(name: str) -> np.dtype:
    """The dtype that holds the values of a GDAL type of this name: NumPy has no complex numbers of integers."""
    return np.dtype("complex64" if name == "complex_int16" else "complex128" if name == "complex_int32" else name)


@dataclass(frozen=True)
class Rows:
    """A band of rows as stored: `pixels` (C,h,W) and `mask` (1 or C,h,W), 0 where there is no data, else 255.

    `mask` is None where every pixel is valid.
    """

    row: int
    pixels: np.ndarray
    mask: np.ndarray | None
    undefined: int = 0
    """Pixels that have no position in the raster they come from."""
    alpha: np.ndarray | None = None
    """(A,h,W), the alpha bands, of the dtype of the pixels; None where there are none."""
    mask_band: np.ndarray | None = None
    """(1,h,W), the mask band on its own, as it is stored."""
    clipped: np.ndarray | None = None
    """(1,h,W) bool, pixels that lay beyond the dtype's range; None where none can."""

    @property
    def height(self) -> int:
        """How many rows they are."""
        return self.pixels.shape[1]

    @classmethod
    def concatenate(cls, parts: "Sequence[Rows]", axis: int = 1) -> "Rows":
        """Copies of parts that follow on each other, below (`axis` 1) or to the right (2); `row` is the first's."""
        mask = join_masks([part.mask for part in parts], [part.pixels.shape[1:] for part in parts], axis)
        return cls(parts[0].row, np.concatenate([part.pixels for part in parts], axis), mask,
                   sum(part.undefined for part in parts), _joined([part.alpha for part in parts], axis),
                   _joined([part.mask_band for part in parts], axis), _joined([part.clipped for part in parts], axis))

    def cut(self, row: int, height: int) -> "Rows":
        """Some of the rows."""
        part = slice(row - self.row, row - self.row + height)
        return self._part(row, part, slice(None))

    def columns(self, col: int, width: int) -> "Rows":
        """Some of the columns."""
        return self._part(self.row, slice(None), slice(col, col + width))

    def _part(self, row: int, rows: slice, cols: slice) -> "Rows":
        mask, alpha, mask_band, clipped = (None if each is None else each[:, rows, cols] for each in (
            self.mask, self.alpha, self.mask_band, self.clipped))
        return Rows(row, self.pixels[:, rows, cols], mask, self.undefined, alpha, mask_band, clipped)


def _joined(arrays: Sequence[np.ndarray | None], axis: int) -> np.ndarray | None:
    """What all parts have, or none."""
    there = [array for array in arrays if array is not None]
    return np.concatenate(there, axis) if there else None


def join_masks(masks: Sequence[np.ndarray | None], shapes: Sequence[tuple[int, int]], axis: int) -> np.ndarray | None:
    """Masks (1 or C,h,w) of parts of these shapes, side by side; None where all pixels of all parts are valid."""
    there = [mask for mask in masks if mask is not None]
    if not there:
        return None
    depth = max(mask.shape[0] for mask in there)
    full = [np.full((depth, *shape), 255, there[0].dtype) if mask is None
            else np.broadcast_to(mask, (depth, *mask.shape[1:])) for mask, shape in zip(masks, shapes)]
    return np.concatenate(full, axis)


def valid_in_all(mask: np.ndarray | None) -> np.ndarray | None:
    """Where all bands of a mask (1 or C,h,w) have data, (h,w) bool; None: everywhere."""
    return None if mask is None else (mask != 0).all(0)


class Raster(Protocol):
    """A raster that is read as a stream of rows: a file, one seen on another grid, the output of a model."""

    @property
    def path(self) -> str:
        """The file that it begins with."""

    @property
    def grid(self) -> Grid: ...

    @property
    def bands(self) -> tuple[Band, ...]: ...

    @property
    def indexes(self) -> tuple[int, ...]:
        """1-based positions of the bands in what it comes from."""

    @property
    def dtype(self) -> str: ...

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        """Any of "nodata" (values; NaN is always without data), "mask" (a mask band) and "alpha"."""

    @property
    def alpha_bands(self) -> tuple[Band, ...]:
        """The alpha bands beside the bands; `Rows.alpha` has their values."""

    @property
    def tags(self) -> dict[str, str]: ...

    @property
    def original(self) -> "RasterFile":
        """The raster on the disk."""

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """The rows of a window (by default all), top to bottom, counted from the window's first; only those of `part`,
        the first and one past the last, where that is given."""

    def read(self, window: Window) -> Rows:
        """One window, which must lie inside."""

    def statistics(self, percentiles: tuple[float, ...] = (), ranges: tuple[tuple[float, float], ...] = ()
                   ) -> Statistics:
        """Per-band statistics of valid pixels, in physical units, and the shares outside a range for each band."""

    def stamps(self) -> dict[str, Any]:
        """What changes when the files do that it comes from."""

    def compressed(self) -> float:
        """The share of its raw size that it takes on disk."""

    def reading_bytes(self, width: int) -> int:
        """Memory that `rows` of this width hold."""

    def rows_at_once(self, width: int) -> int:
        """How many rows of this width `rows` gives at a time, at most."""


class Windows(Protocol):
    """Windows of a raster, read from several threads between entering and leaving."""

    def __enter__(self) -> "Windows":
        """Itself."""

    def __exit__(self, *_) -> None:
        """Lets go of what it holds."""

    def read(self, window: Window) -> Rows:
        """A window that lies inside the raster."""


class SeekableRaster(Raster, Protocol):
    """A raster any part of which can be had again: a file, one seen on another grid; not the output of a model."""

    def windows(self, rows_held: int) -> Windows:
        """Windows in about the order of rows, as long as they do not reach back further than `rows_held`."""

    def decimated(self, longest: int = 1024) -> Rows:
        """The whole at reduced size (nearest pixel)."""

    def valid(self, longest: int = 1024) -> np.ndarray | None:
        """Where all bands of `decimated` have data, (h,w) bool; None: everywhere."""


class RasterFile(SeekableRaster, Protocol):
    """A raster on the disk, and what it says of itself."""

    @property
    def alphas(self) -> tuple[int, ...]:
        """1-based positions of the alpha bands."""

    @property
    def domains(self) -> Domains: ...

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Those of the bands, which `dtype` holds."""

    @property
    def structure(self) -> dict[str, str]:
        """How the file stores pixels, as GDAL has it in IMAGE_STRUCTURE."""

    @property
    def stored(self) -> "RasterFile | None":
        """The file's own numbers, where these are others; None: they are these."""


def pieces(rows: Rows, height: int) -> Iterator[Rows]:
    """The same rows, so many at a time."""
    for first in range(rows.row, rows.row + rows.height, height):
        yield rows.cut(first, min(height, rows.row + rows.height - first))


def prefetched(items: Generator[Rows], held: int) -> Generator[Rows]:
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
