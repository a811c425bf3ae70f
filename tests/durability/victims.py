"""Runs of the command line that are made to end: killed, interrupted, or stopped at a chosen call to the system.

Each runs in a process forked from a server that has imported everything, so that kills meet the work and not the
imports.
"""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CALLS = ("replace", "fsync", "unlink", "rmdir", "mkdir")
"""What changes a folder or the disk, each call a place to be killed at."""
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["geoi2i.cli.main", "geoi2i.cli.run", "geoi2i.cli.reproject", "geoi2i.cli.train",
                                "geoi2i.core.run", "geoi2i.training.export", "geoi2i.training.loop",
                                "geoi2i.core.models.package"])


@dataclass(frozen=True)
class End:
    """How a run ended."""

    code: int
    seconds: float
    text: str
    calls: int
    """Places to be killed at that it passed."""


def run(arguments: list[str], folder: Path, *, kill_at: tuple[int, str] | None = None,
        send: tuple[float, int] | None = None, memory: int | None = None) -> End:
    """Runs `geoi2i` with these arguments in a folder.

    Args:
        memory: bytes that seem to be free when it is decided how a chain goes over the raster.
        kill_at: number of the call to die at, and whether "before" or "after" it.
        send: seconds after which to send which signal.
    """
    said, counted = folder.parent / f"{folder.name}.said", folder.parent / f"{folder.name}.calls"
    said.touch()  # a run may die before its first word
    started = time.monotonic()
    process = _SERVER.Process(target=_work, args=(arguments, str(folder), str(said), str(counted), kill_at, memory))
    process.start()
    if send:
        process.join(send[0])
        if process.is_alive():
            os.kill(process.pid, send[1])
    process.join(120)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{arguments} does not end: {said.read_text()}")
    calls = int(counted.read_text()) if counted.exists() else 0
    text = said.read_text()
    for path in (said, counted):
        path.unlink(missing_ok=True)
    return End(process.exitcode, time.monotonic() - started, text, calls)


def _work(arguments, folder, said, counted, kill_at, memory) -> None:
    import torch
    from geoi2i.cli.main import main
    from geoi2i.core.output import strips
    from geoi2i.core.pipeline import estimates

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    sys.stdout = sys.stderr = open(said, "w", buffering=1)
    torch.set_num_threads(1)
    strips._STRIP_BYTES = 1  # the lowest strips there can be
    if memory:
        estimates.available_memory = lambda: memory
    count = _count_calls(kill_at)
    try:
        main(arguments)
    finally:
        Path(counted).write_text(str(count[0]))


def _count_calls(kill_at) -> list[int]:
    """Replaces what changes the disk by what counts, and dies at the chosen call."""
    count = [0]
    from geoi2i.core.output import cog

    def counting(function):
        def call(*arguments, **options):
            number = count[0]
            count[0] += 1
            if kill_at == (number, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **options)
            finally:  # also where there was nothing to change
                if kill_at == (number, "after"):
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    cog._copy_tiles = counting(cog._copy_tiles)
    return count
