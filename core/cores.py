"""The cores that this process may use."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


def core_count() -> int:
    """The cores this process may use, where the system says."""
    with contextlib.suppress(AttributeError):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


@dataclass
class Place:
    """Which process of a machine this is, and how many cores it takes; None: all it may."""

    rank: int = 0
    threads: int | None = None


place = Place()


@contextlib.contextmanager
def working_as(rank: int, threads: int) -> Iterator[None]:
    """While this lasts, the process is one of several on a machine: it takes its own GPU and so many cores."""
    before = place.rank, place.threads
    place.rank, place.threads = rank, threads
    try:
        yield
    finally:
        place.rank, place.threads = before


def cpu_workers() -> int:
    """Windows or tiles made side by side on the CPU: one a core."""
    return place.threads or core_count()
