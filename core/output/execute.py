"""From a job to its output: the strips that are missing are made, all are assembled, the result gets its name."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..device import is_out_of_memory, one_thread_here, release_memory
from ..errors import DeviceError, RasterError
from ..files import Folder
from ..inference.stream import Part
from ..raster.rows import Rows
from .checks import check_name, check_place
from .completed import Memory
from .journal import Journal
from .needs import Needs, check_needs
from .parts import remove_legs
from .profile import OutputSpec, auxiliary
from .readback import check_reads_back
from .strips import Gathering, Strip, Strips, strip_rows


@dataclass(frozen=True)
class Output:
    """A raster that a job makes."""

    path: Path
    spec: OutputSpec


class Job(Protocol):
    """Rows that can be made from any row on, always with the same bits, and what they become."""

    outputs: tuple[Output, ...]
    """The result, and what goes beside it; all of one height."""
    facts: dict[str, Any]
    """All that the pixels depend on, by names a person knows; JSON."""
    needs: Needs | None
    """What it will take."""
    strips: Strips | None
    """Where its rows are left for the next leg; None: they are the outputs'."""
    work: int
    """How long it takes among the legs of a job."""

    def legs(self, folder: Folder) -> tuple["Job", ...]:
        """What to do one after the other: each leaves its rows in `folder` for the next, the last makes the outputs."""

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Consecutive rows of every output, or of what is left for the next leg, that cover `part`; calls `done` with
        the share of the work."""

    def smaller(self) -> "Job":
        """The same job with less memory. Raises DeviceError where there is no such."""

    def conclude(self, valid: int, undefined: int) -> str | None:
        """What to say of so many pixels with data and without a position. Raises RasterError for no result at all."""


@dataclass(frozen=True)
class Watch:
    """Where a run tells how it goes."""

    progress: Callable[[int, int], None] = lambda done, total: None
    """Rows done and rows in all, by the work that they take; raise from it to stop."""
    notice: Callable[[str], None] = lambda text: None
    """Sentences for the user."""
    record: Callable[[dict[str, Any]], None] = lambda facts: None
    """What happened, for the run's log: an `event`, and facts about it."""


Execute = Callable[[Job, tuple[Strips, ...], list[range], Watch], None]
"""Makes runs of consecutive strips of the outputs, here or elsewhere."""


def deliver(job: Job, *, overwrite: bool = False, resume: bool = True, execute: Execute | None = None,
            memory: Memory | None = None, watch: Watch = Watch()) -> Path:
    """Makes the job's outputs, or what is missing of them.

    Args:
        resume: whether strips of an earlier run are used, and strips of this one kept where it fails.
        execute: who makes the strips; by default this process.
        memory: the outputs that a batch has finished.

    Returns:
        The path of the first output.

    Raises:
        Geoi2iError: one sentence; no output has its name then.
    """
    for output in job.outputs:
        check_place(output.path)
    with ExitStack() as stack:
        journals = [stack.enter_context(Journal(output.path, job.facts, resume, overwrite))
                    for output in job.outputs]
        stack.push(lambda kind, *_: _say_what_is_kept(journals[0], watch) if kind else None)
        first = journals[0]
        if not first.published():  # which is the last to be
            if memory and memory.knows(first.path, first.digest):
                watch.notice(f"{first.path} was finished before.")
            else:
                _produce(job, journals, overwrite, execute or make_here, watch)
        if memory:
            memory.add(first.path, first.digest)
        for journal in journals:
            journal.finished = True
    watch.record({"event": "done", "output": str(first.path)})
    return first.path


def _say_what_is_kept(journal: Journal, watch: Watch) -> None:
    if count := journal.kept():
        strips = "1 finished strip is" if count == 1 else f"{count} finished strips are"
        watch.notice(f"{strips} kept in {journal.parts}: the same command goes on with them, --no-resume discards "
                     "them.")


def save_raster(path: Path, spec: OutputSpec, rows: Iterable[Rows], overwrite: bool = False) -> Path:
    """Writes rows that are there already, top to bottom, as a Cloud Optimized GeoTIFF."""
    return deliver(_Given((Output(path, spec),), rows), overwrite=overwrite, resume=False)


@dataclass(frozen=True)
class _Given:
    """Rows that exist once."""

    outputs: tuple[Output, ...]
    given: Iterable[Rows]
    facts = {}
    needs = strips = None
    work = 1

    def legs(self, folder: Folder) -> tuple["_Given"]:
        return self,

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        return ((rows,) for rows in self.given)

    def smaller(self) -> "_Given":
        raise DeviceError("There is too little memory to write the raster: free some.")

    def conclude(self, valid: int, undefined: int) -> str | None:
        return None


def make_here(job: Job, strips: tuple[Strips, ...], runs: list[range], watch: Watch) -> None:
    """Makes runs of strips in this process, one after the other."""
    height = strips[0].spec.grid.height
    before = height - sum(_height(strips[0], run) for run in runs)
    watch.progress(before, height)
    for run in runs:
        rows = _height(strips[0], run)
        job = make_strips(job, strips, run, Watch(lambda done, _, before=before: watch.progress(before + done, height),
                                                  watch.notice, watch.record))
        before += rows


def make_strips(job: Job, strips: tuple[Strips, ...], run: range, watch: Watch) -> Job:
    """Makes consecutive strips, with less memory at a time where there is too little.

    Returns:
        The job as it got through.
    """
    while True:
        try:
            _make(job, strips, run, watch)
            return job
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            job = job.smaller()
            watch.notice(f"The device ran out of memory; going on with {job}.")
            watch.record({"event": "out of memory", "going on with": str(job)})
            run = range(next(k for k in run if any(s.facts(0, k) is None for s in strips)), run.stop)


def _produce(job: Job, journals: list[Journal], overwrite: bool, execute: Execute, watch: Watch) -> None:
    rows = strip_rows(tuple(output.spec for output in job.outputs))
    strips = tuple(Strips(output.path, journal.folder, output.spec, rows)
                   for output, journal in zip(job.outputs, journals))
    for output, journal in zip(job.outputs, journals):
        if not journal.published():
            check_name(output.path, overwrite)
            if job.needs:
                check_needs(output.path, job.needs)
    count, made = strips[0].count(), _whole(strips)
    watch.record({"event": "begin", "output": str(job.outputs[0].path), "strips": count, "rows": rows,
                  "made before": sum(made), "facts": job.facts})
    if any(made):
        watch.notice(f"{sum(made)} of {count} strips of {job.outputs[0].path} were made before; going on.")
    if not all(made):
        _go_legs(job.legs(journals[0].folder), strips, made, execute, watch)
    made = [strips[0].facts(0, k) for k in range(count)]
    try:
        note = job.conclude(*(sum(facts.get(key, 0) for facts in made) for key in ("valid", "undefined")))
    except RasterError:  # there is nothing to go on with
        for journal in journals:
            journal.resume = False
        raise
    if note:
        watch.notice(note)
    release_memory()  # the strips are made, and assembling has its own needs
    started = time.monotonic()
    for each, journal in zip(strips, journals):
        if not journal.published():
            each.assemble()
    for each, journal in zip(reversed(strips), reversed(journals)):
        if not journal.published():
            journal.publish(auxiliary(each.spec), overwrite, partial(check_reads_back, each))
    watch.record({"event": "assembled", "output": str(journals[0].path),
                  "seconds": round(time.monotonic() - started, 3)})


def _go_legs(legs: tuple[Job, ...], outputs: tuple[Strips, ...], made: list[bool], execute: Execute, watch: Watch
             ) -> None:
    """Makes what is missing of the outputs, leg by leg; what a leg has left goes when the next needs it no more."""
    places = [*((leg.strips,) for leg in legs[:-1]), outputs]
    remove_legs(outputs[0].folder, {leg.strips.leg for leg in legs[:-1]})  # of legs that were cut otherwise
    there = [*(_whole(place) for place in places[:-1]), made]
    first = max([k + 1 for k in range(len(legs)) if all(there[k])], default=0)
    height, work = outputs[0].spec.grid.height, sum(leg.work for leg in legs)
    for k in range(first, len(legs)):
        before = sum(leg.work for leg in legs[:k])

        def progress(done: int, total: int, before: int = before, share: int = legs[k].work) -> None:
            watch.progress(height * (before * total + share * done) // (work * total), height)

        missing = [index for index, is_there in enumerate(there[k]) if not is_there]
        execute(legs[k], places[k], _runs(missing), Watch(progress, watch.notice, watch.record))
        remove_legs(outputs[0].folder, {leg.strips.leg for leg in legs[k:-1]})


def _whole(place: tuple[Strips, ...]) -> list[bool]:
    """Whether each strip is there, of all that are made together; what is damaged is removed."""
    for strips in place:
        strips.forget_damaged()
    return [all(there) for there in zip(*(strips.made() for strips in place))]


def _make(job: Job, strips: tuple[Strips, ...], run: range, watch: Watch) -> None:
    """As `make_strips`, with the memory that there is."""
    first, rows = strips[0].part(run.start)[0], _height(strips[0], run)
    shown = -1

    def done(share: float) -> None:
        nonlocal shown
        if (now := int(share * rows)) > shown:
            shown = now
            watch.progress(now, rows)

    with torch.inference_mode(), one_thread_here(), _Writer(strips, run, watch) as writer:
        for outputs in job.rows((first, first + rows), done):
            writer.write(outputs)
    done(1.0)


class _Writer:
    """Cuts rows into strips, and writes those that are full in a thread of its own."""

    def __init__(self, strips: tuple[Strips, ...], run: range, watch: Watch):
        self.strips, self.watch = strips, watch
        self.gatherings = [Gathering(each, run) for each in strips]
        self.row, self.stop = strips[0].part(run.start)[0], strips[0].part(run.stop - 1)[1]
        self.current: tuple[Strip, ...] = ()
        self.facts: dict[str, float] = {}
        self.queue: queue.Queue[tuple[tuple[Strip, ...], dict[str, float]] | None] = queue.Queue(1)
        self.failure: list[BaseException] = []
        self.thread = threading.Thread(target=self._drain, name="geoi2i-write", daemon=True)

    def __enter__(self) -> "_Writer":
        self.thread.start()
        self.started = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.queue.put(None)
        self.thread.join()
        if self.failure:
            raise self.failure[0]

    def write(self, outputs: tuple[Rows, ...]) -> None:
        """Rows of every output, in order; those outside the run are dropped."""
        if self.failure:
            raise self.failure[0]
        top = outputs[0].row
        self._count("undefined", outputs[0].undefined)
        while self.row < min(self.stop, top + outputs[0].pixels.shape[1]):
            if not self.current:
                index = self.row // self.strips[0].rows
                self.current = tuple(each.new(0, index) for each in self.strips)
            place = self.row % self.strips[0].rows
            rows = min(self.current[0].height - place, top + outputs[0].pixels.shape[1] - self.row)
            part = slice(self.row - top, self.row - top + rows)
            for strip, given in zip(self.current, outputs):
                strip.put(place, given.pixels[:, part], None if given.mask is None else given.mask[:, part])
            mask = outputs[0].mask
            shown = rows * outputs[0].pixels.shape[2] if mask is None else int(np.count_nonzero(mask[:, part].max(0)))
            self._count("valid", shown)
            self.row += rows
            if place + rows == self.current[0].height:
                self.queue.put((self.current, self.facts))
                self.current, self.facts = (), {}

    def _count(self, key: str, pixels: int) -> None:
        self.facts[key] = self.facts.get(key, 0) + pixels

    def _drain(self) -> None:
        """One strip is gathered and one waits while another is written."""
        while (item := self.queue.get()) is not None:
            if self.failure:
                continue  # keep emptying the queue, so that the producer does not block
            strips, facts = item
            try:
                now = time.monotonic()
                facts["seconds"], self.started = round(now - self.started, 3), now
                for gathering, strip in zip(self.gatherings, strips):
                    gathering.add(strip, facts)
                self.watch.record({"event": "strip", **self.strips[0].told(strips[0].index), **facts})
            except BaseException as error:
                self.failure.append(error)


def _height(strips: Strips, run: range) -> int:
    return strips.part(run.stop - 1)[1] - strips.part(run.start)[0]


def _runs(numbers: list[int]) -> list[range]:
    """Consecutive numbers together."""
    found = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        found.append(range(members[0], members[-1] + 1))
    return found
