"""Strips made by the workers of a Dask cluster, which write them to the shared folder and only say that they did.

The client decides who makes what: a worker has one run of strips at a time and uses its threads for that. What
is finished stands in the folder, so that a lost worker costs the strip it was at, and a lost scheduler those that
were under way.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass

from ..cores import core_count, working_as
from ..device import reused_memory
from ..errors import Cancelled, Geoi2iError, RasterError
from .execute import Callbacks, Job, make_strips
from .scratch import scratch_folder
from .strips import Strips

ATTEMPTS = 3
"""How often a strip may fail."""
_TASKS_EACH, _LONGEST_RUN = 3, 64
_LOOK_S, _PATIENCE_S = 1.0, 30.0


@dataclass
class _Task:
    """Consecutive strips for one worker."""

    run: range
    """Those that are not known to be finished."""
    worker: str = ""


class Cluster:
    """The workers of a Dask cluster; `make` may be called from several threads."""

    def __init__(self, client):
        self.client, self.stopped = client, False
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many workers there are now."""
        return len(self._workers())

    def stop(self) -> None:
        """Ends every `make` that is under way."""
        self.stopped = True

    def make(self, job: Job, strips: tuple[Strips, ...], runs: list[range], callbacks: Callbacks) -> None:
        """Makes runs of strips; see `execute.Executor`.

        Raises:
            RasterError: where a strip failed three times, or the scheduler is gone; finished strips are kept.
        """
        waiting = deque(_tasks(runs, len(self._workers())))
        self._asked(self.client.run, _warm_up, job)  # or starting would count as work, and the end seem far away
        progress = _Progress(strips, runs, callbacks)
        running: dict = {}
        failures: Counter[int] = Counter()
        try:
            while waiting or running:
                if self.stopped:
                    raise Cancelled("The run was stopped.")
                workers = self._workers()
                for address, threads, rank in self._take(workers, len(waiting)):
                    task = waiting.popleft()
                    task.worker = address
                    running[self._submit(job, strips, task.run, address, threads, rank)] = task
                self._wait(running)
                for future, task in list(running.items()):
                    progress.look(task)
                    lost = task.worker not in workers
                    if not (future.done() or lost):
                        continue
                    del running[future]
                    self._give(task.worker)
                    notes, error = self._asked(future.result) if future.status == "finished" else ([], _error(future))
                    for note in notes:
                        callbacks.warn(note)
                    if error:
                        self._count_failure(failures, task, strips[0], error, callbacks)
                        waiting.appendleft(task)
                        future.cancel()
        finally:
            for future, task in running.items():
                future.cancel()
                self._give(task.worker)

    def _submit(self, job, strips, run, address, threads, rank):
        from ... import __version__

        return self._asked(self.client.submit, _make, job, strips, run, threads, rank, __version__,
                           workers=[address], allow_other_workers=False, pure=False, retries=0)

    def _workers(self) -> dict[str, int]:
        """Address and number of threads of every worker there is now."""
        return self._asked(self.client.nthreads)

    def _asked(self, question, *arguments, **options):
        """What the scheduler answers."""
        try:
            return question(*arguments, **options)
        except (OSError, TimeoutError, CancelledError, AttributeError) as error:
            raise RasterError("The scheduler of the cluster is gone; finished strips are kept: start it again and give "
                              "the same command.") from error

    def _take(self, workers: dict[str, int], most: int) -> list[tuple[str, int, int]]:
        """Idle workers, with their threads and their number among those of their machine."""
        hosts: Counter[str] = Counter()
        taken: list[tuple[str, int, int]] = []
        with self._lock:
            for address in sorted(workers):
                host = address.rpartition(":")[0]
                rank, hosts[host] = hosts[host], hosts[host] + 1
                if address not in self._busy and len(taken) < most:
                    self._busy.add(address)
                    taken.append((address, workers[address], rank))
        return taken

    def _give(self, address: str) -> None:
        with self._lock:
            self._busy.discard(address)

    def _wait(self, running: dict) -> None:
        from distributed import wait

        if not running:
            time.sleep(_LOOK_S)
            return
        with contextlib.suppress(TimeoutError, CancelledError):  # cancelled: seen by the next question to the scheduler
            wait(list(running), timeout=_LOOK_S, return_when="FIRST_COMPLETED")

    def _count_failure(self, failures: Counter[int], task: _Task, strips: Strips, error: Exception, callbacks: Callbacks
                       ) -> None:
        """Raises where a strip failed too often."""
        strip = task.run.start
        failures[strip] += 1
        first, stop = strips.part(strip)
        callbacks.log({"event": "strip failed", "output": str(strips.path), "strip": strip, "attempt": failures[strip],
                      "worker": task.worker, "why": str(error)})
        if failures[strip] < ATTEMPTS:
            return
        if not isinstance(error, Geoi2iError):
            raise error
        raise RasterError(f"Strip {strip} of {strips.path} (rows {first} to {stop - 1}) failed {ATTEMPTS} times, the "
                          f"last time because: {error}")


class _Progress:
    """What is finished, by what stands in the folder."""

    def __init__(self, strips: tuple[Strips, ...], runs: list[range], callbacks: Callbacks):
        self.strips, self.callbacks = strips, callbacks
        self.height = strips[0].spec.grid.height
        self.done = self.height - sum(len(range(*strips[0].part(k))) for run in runs for k in run)
        callbacks.progress(self.done, self.height)

    def look(self, task: _Task) -> None:
        """Takes the strips off a task that are finished by now."""
        while task.run and all(each.record(0, task.run.start) is not None for each in self.strips):
            strips, index = self.strips[0], task.run.start
            first, stop = strips.part(index)
            self.callbacks.log({"event": "strip", **strips.log_record(index), "worker": task.worker,
                               **_own(strips.record(0, index) or {})})
            self.done += stop - first
            self.callbacks.progress(self.done, self.height)
            task.run = task.run[1:]


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[Cluster]:
    """A cluster of so many processes on this machine, which share its cores.

    Raises:
        ImportError: where `distributed` or `cryptography` is missing.
        OSError: where the system's temporary folder cannot be written.
    """
    from distributed import Client

    from . import nodes

    threads = max(1, core_count() // workers)
    with scratch_folder() as folder, nodes.start(workers, threads, folder) as cluster, Client(cluster) as client:
        yield Cluster(client)


@contextlib.contextmanager
def existing_cluster(address: str) -> Iterator[Cluster]:
    """The cluster of a scheduler that runs already; one at tls:// gets the certificates of Dask's configuration.

    Raises:
        RasterError: if there is none, or none that these certificates open.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_PATIENCE_S)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:  # the last two: no certificates
        raise RasterError(f"The Dask scheduler at {address} cannot be reached ({type(error).__name__}): "
                          "check the address, for example tcp://node1:8786, and for tls://... the certificates that "
                          "Dask's configuration names under distributed.comm.tls.") from error
    with client:
        yield Cluster(client)


def _make(job: Job, strips: tuple[Strips, ...], run: range, threads: int, rank: int, version: str
          ) -> tuple[list[str], Geoi2iError | None]:
    """What a worker does; returns what there is to say, and an expected failure (which Dask could not send whole)."""
    from ... import __version__

    if version != __version__:
        raise RasterError(f"A worker runs geoi2i {__version__}, and the client {version}: install the same on both.")
    notes: list[str] = []
    missing = [k for k in run if any(each.record(0, k) is None for each in strips)]
    if missing:
        with working_as(rank, threads), reused_memory():
            try:
                make_strips(job, strips, range(missing[0], run.stop), Callbacks(message=notes.append))
            except Geoi2iError as error:
                return notes, type(error)(str(error))
    return notes, None


def _warm_up(job: Job) -> None:
    """Imports what a worker will need: to get the job it had to."""


def _tasks(runs: list[range], workers: int) -> list[_Task]:
    """Runs of strips cut where overviews meet: several for each worker, so that none waits long for the last."""
    count = sum(len(run) for run in runs)
    size = 1
    while size < _LONGEST_RUN and count >= 2 * size * _TASKS_EACH * max(1, workers):
        size *= 2
    tasks = []
    for run in runs:
        edges = sorted({run.start, *range(-(-run.start // size) * size, run.stop, size), run.stop})
        tasks += [_Task(range(*pair)) for pair in zip(edges, edges[1:])]
    return tasks


def _error(future) -> Exception:
    """Why a task did not come to its end."""
    if future.status == "error":
        return future.exception()
    return RasterError("its worker was lost, perhaps for lack of memory: use fewer workers, or a smaller --tile.")


def _own(record: dict) -> dict:
    return {key: value for key, value in record.items() if key != "files"}
