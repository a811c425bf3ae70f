"""Rows of pixels as they go from raster to raster, and a thread that makes them ahead."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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


def pieces(rows: Rows, height: int) -> Iterator[Rows]:
    for first in range(0, rows.pixels.shape[1], height):
        part = slice(first, first + height)
        yield Rows(rows.row + first, rows.pixels[:, part], None if rows.mask is None else rows.mask[:, part])


def prefetched(items: Iterator[Rows], held: int) -> Iterator[Rows]:
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
