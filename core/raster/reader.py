"""Windows of a raster: in any order, of blocks that are decoded once; or out of a stream of rows."""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from rasterio.windows import Window as RioWindow

from ..grid import Grid, Window
from .rows import Rows

_BLOCK_PX = 512
HELD_BYTES = 256 << 20
"""Memory for the blocks of a raster that is read in windows."""


class File(Protocol):
    """A raster of which any part can be decoded, by several threads."""

    @property
    def grid(self) -> Grid: ...

    @property
    def indexes(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def mask_kinds(self) -> tuple[str, ...]: ...

    @property
    def block_shape(self) -> tuple[int, int]: ...

    def read_piece(self, part: RioWindow) -> Rows:
        """A part of the raster, read by this thread; `row` counts from the raster's first."""


class RasterWindows:
    """Windows of a raster in any order and from several threads; blocks are decoded once while they are held."""

    def __init__(self, source: File, held_bytes: int = HELD_BYTES):
        self.source = source
        grid = source.grid
        # Whole blocks, several of them where they are small or strips.
        rows, cols = (min(size, block * -(-_BLOCK_PX // block))
                      for size, block in zip((grid.height, grid.width), source.block_shape))
        self.rows, self.cols = max(1, rows), max(1, cols)
        depth = len(source.indexes) * np.dtype(source.dtype).itemsize + len(source.mask_kinds)
        self.most = max(4, held_bytes // (self.rows * self.cols * depth))
        self._held: OrderedDict[tuple[int, int], Future] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> "RasterWindows":
        return self

    def __exit__(self, *_) -> None:
        self._held.clear()

    def read(self, window: Window) -> Rows:
        """A window that lies inside the raster."""
        rows = []
        for down in range(window.row // self.rows, (window.row + window.height - 1) // self.rows + 1):
            top = max(window.row, down * self.rows)
            parts = []
            for across in range(window.col // self.cols, (window.col + window.width - 1) // self.cols + 1):
                block, left = self._block(down, across), max(window.col, across * self.cols)
                height = min(window.row + window.height, down * self.rows + block.height) - top
                width = min(window.col + window.width, across * self.cols + block.pixels.shape[2]) - left
                parts.append(block.cut(top, height).columns(left - across * self.cols, width))
            rows.append(parts[0] if len(parts) == 1 else Rows.concatenate(parts, axis=2))
        return Rows.concatenate(rows)

    def _block(self, down: int, across: int) -> Rows:
        """One block, read by the first thread that asks; others that ask meanwhile wait for it."""
        key = down, across
        with self._lock:
            future = self._held.get(key)
            mine = future is None
            if future is None:
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
        return self.source.read_piece(part)


class StreamWindows:
    """Windows of a stream of rows that come in order, as long as they do not reach too far back."""

    def __init__(self, rows: Iterator[Rows], rows_held: int):
        self._rows, self._most, self._lock = rows, rows_held, threading.Lock()
        self._held: deque[Rows] = deque()
        self._reached = self._asked = 0

    def __enter__(self) -> "StreamWindows":
        return self

    def __exit__(self, *_) -> None:
        self._held.clear()
        if hasattr(self._rows, "close"):
            self._rows.close()

    def read(self, window: Window) -> Rows:
        """A window that begins among the rows that are held or coming.

        Raises:
            RuntimeError: where its first row has gone by.
        """
        stop = window.row + window.height
        with self._lock:
            self._asked = max(self._asked, stop)
            while self._reached < stop:
                rows = next(self._rows)
                self._held.append(rows)
                self._reached = rows.row + rows.pixels.shape[1]
            while self._held[0].row + self._held[0].pixels.shape[1] <= self._asked - self._most:
                self._held.popleft()
            held = [rows for rows in self._held if rows.row < stop and rows.row + rows.pixels.shape[1] > window.row]
        if not held or held[0].row > window.row:
            raise RuntimeError(f"Row {window.row} has left the stream, which holds {self._most} rows.")
        whole = Rows.concatenate([rows.columns(window.col, window.width) for rows in held])
        return whole.cut(window.row, window.height)
