"""From a job to its output: the strips that are missing are made, all are assembled, the result gets its name."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ..device import is_out_of_memory, one_thread_here, release_memory
from ..errors import DeviceError, EmptyRasterError, RasterError
from ..files import Folder
from ..inference.stream import Part
from ..raster.rows import Rows
from .callbacks import Callbacks
from .checks import check_format, check_name, check_place
from .completed import CompletedOutputs
from .creation import STANDARD, CreationOptions
from .journal import Journal
from .needs import Needs, check_needs
from .parts import remove_segments
from .profile import Output, OutputSpec
from .readback import check_reads_back, sidecar
from .strips import Strip, Strips, StripWriter, strip_rows


class Job(Protocol):
    """Rows that can be made from any row on, always with the same bits, and what they become."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The result, and what goes beside it; all of one height."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that the pixels depend on, by names a person knows; JSON."""

    @property
    def needs(self) -> Needs | None:
        """What it will take."""

    @property
    def strips(self) -> Strips | None:
        """Where its rows are left for the next segment; None: they are the outputs'."""

    @property
    def work(self) -> int:
        """How long it takes among the segments of a job."""

    def split(self, folder: Folder) -> tuple["Job", ...]:
        """What to do one after the other: each leaves its rows in `folder` for the next, the last makes the outputs."""

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Consecutive rows of every output, or of what is spilled for the next segment, that cover `part`; calls `done`
        with the share of the work."""

    def smaller(self) -> "Job":
        """The same job with less memory. Raises DeviceError where there is no such."""

    def conclude(self, valid: int, undefined: int) -> str | None:
        """What to say of so many pixels with data and without a position. Raises RasterError for no result at all."""


_SILENT = Callbacks()
Executor = Callable[[Job, tuple[Strips, ...], list[range], Callbacks], None]
"""Makes runs of consecutive strips of the outputs, here or elsewhere."""


def deliver(job: Job, *, overwrite: bool = False, resume: bool = True, executor: Executor | None = None,
            completed: CompletedOutputs | None = None, skip_empty: bool = False, creation: CreationOptions = STANDARD,
            callbacks: Callbacks = _SILENT) -> Path:
    """Makes the job's outputs, or what is missing of them.

    Args:
        resume: whether strips of an earlier run are used, and strips of this one kept where it fails.
        executor: who makes the strips; by default this process.
        completed: the outputs that a batch has finished.
        skip_empty: whether an output without a valid pixel is refused (EmptyRasterError) instead of written.
        creation: how its tiles are coded.

    Returns:
        The path of the first output.

    Raises:
        Geoi2iError: one sentence; no output has its name then.
    """
    for output in job.outputs:
        check_format(output.path)
        check_place(output.path)
        sidecar(output.spec)
        creation.check(output.spec.dtype, output.spec.bits)
    with ExitStack() as stack:
        journals = [stack.enter_context(Journal(output.path, job.fingerprint | creation.fingerprint, resume, overwrite))
                    for output in job.outputs]
        stack.push(lambda kind, *_: _say_what_is_kept(journals[0], callbacks) if kind else None)
        first = journals[0]
        if not first.published():  # which is the last to be
            if completed and completed.knows(first.path, first.key):
                callbacks.message(f"{first.path} was finished before.")
            else:
                _produce(job, journals, overwrite, executor or make_here, skip_empty, creation, callbacks)
        if completed:
            completed.add(first.path, first.key)
        for journal in journals:
            journal.finished = True
    callbacks.log({"event": "done", "output": str(first.path)})
    return first.path


def _say_what_is_kept(journal: Journal, callbacks: Callbacks) -> None:
    if count := journal.kept():
        strips = "1 finished strip is" if count == 1 else f"{count} finished strips are"
        callbacks.message(f"{strips} kept in {journal.parts}: the same command resumes with them, --no-resume discards "
                     "them.")


def save_raster(path: Path, spec: OutputSpec, rows: Iterable[Rows], overwrite: bool = False) -> Path:
    """Writes rows that are there already, top to bottom, as a Cloud Optimized GeoTIFF."""
    return deliver(_Given((Output(path, spec),), rows), overwrite=overwrite, resume=False)


@dataclass(frozen=True)
class _Given:
    """Rows that exist once."""

    outputs: tuple[Output, ...]
    given: Iterable[Rows]
    fingerprint: ClassVar[dict[str, Any]] = {}
    needs = strips = None
    work = 1

    def split(self, folder: Folder) -> tuple["_Given"]:
        return self,

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        return ((rows,) for rows in self.given)

    def smaller(self) -> "_Given":
        raise DeviceError("There is too little memory to write the raster: free some.")

    def conclude(self, valid: int, undefined: int) -> str | None:
        return None


def make_here(job: Job, strips: tuple[Strips, ...], runs: list[range], callbacks: Callbacks) -> None:
    """Makes runs of strips in this process, one after the other."""
    height = strips[0].spec.grid.height
    before = height - sum(_height(strips[0], run) for run in runs)
    callbacks.progress(before, height)
    for run in runs:
        def progress(done: int, total: int, before: int = before) -> None:
            callbacks.progress(before + done, height)

        job = make_strips(job, strips, run, replace(callbacks, progress=progress))
        before += _height(strips[0], run)


def make_strips(job: Job, strips: tuple[Strips, ...], run: range, callbacks: Callbacks) -> Job:
    """Makes consecutive strips, with less memory at a time where there is too little.

    Returns:
        The job as it got through.
    """
    while True:
        try:
            _make(job, strips, run, callbacks)
            return job
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            job = job.smaller()
            callbacks.warn(f"The device ran out of memory; continuing with {job}.")
            callbacks.log({"event": "out of memory", "continuing with": str(job)})
            run = range(next(k for k in run if any(s.record(0, k) is None for s in strips)), run.stop)


def _produce(job: Job, journals: list[Journal], overwrite: bool, executor: Executor, skip_empty: bool,
             creation: CreationOptions, callbacks: Callbacks) -> None:
    rows = strip_rows(tuple(output.spec for output in job.outputs))
    strips = tuple(Strips(output.path, journal.folder, output.spec, rows, creation=creation)
                   for output, journal in zip(job.outputs, journals))
    for output, journal in zip(job.outputs, journals):
        if not journal.published():
            check_name(output.path, overwrite)
            if job.needs:
                check_needs(output.path, job.needs)
    first, count, made = job.outputs[0], strips[0].count(), _whole(strips)
    callbacks.log({"event": "begin", "output": str(first.path), "strips": count, "rows": rows,
                  "made before": sum(made), "fingerprint": journals[0].fingerprint})
    if any(made):
        callbacks.message(f"{sum(made)} of {count} strips of {first.path} were made before; resuming.")
    if not all(made):
        _make_segments(job.split(journals[0].folder), strips, made, executor, callbacks)
    records = [strips[0].record(0, k) or {} for k in range(count)]
    valid, undefined, clipped = (sum(record.get(key, 0) for record in records)
                                 for key in ("valid", "undefined", "clipped"))
    try:
        if skip_empty and not valid:
            raise EmptyRasterError(f"{first.path} would have no valid pixel: leave --skip-empty out to write it.")
        note = job.conclude(valid, undefined)
    except RasterError:  # there is nothing to resume
        for journal in journals:
            journal.resume = False
        raise
    if note:
        callbacks.message(note)
    if clipped:
        callbacks.warn(f"{clipped} of {valid} valid pixels ({100 * clipped / valid:.3g} %) had values beyond "
                       f"{first.spec.dtype} and were clipped to its range: a wider --dtype keeps them.")
    release_memory()  # the strips are made, and assembling has its own needs
    started = time.monotonic()
    for each, journal in zip(strips, journals):
        if not journal.published():
            each.assemble()
    for each, journal in zip(reversed(strips), reversed(journals)):
        if not journal.published():
            journal.publish(sidecar(each.spec), overwrite, partial(check_reads_back, each))
    callbacks.log({"event": "assembled", "output": str(journals[0].path),
                  "seconds": round(time.monotonic() - started, 3)})


def _make_segments(segments: tuple[Job, ...], outputs: tuple[Strips, ...], made: list[bool], executor: Executor,
                   callbacks: Callbacks) -> None:
    """Makes what is missing of the outputs, segment by segment; what one has spilled goes when the next needs it no
    more."""
    spilled = [segment.strips for segment in segments if segment.strips]
    places = [*((strips,) for strips in spilled), outputs]
    remove_segments(outputs[0].folder, {strips.segment for strips in spilled})  # but those cut otherwise
    there = [*(_whole(place) for place in places[:-1]), made]
    first = max([k + 1 for k in range(len(segments)) if all(there[k])], default=0)
    height, work = outputs[0].spec.grid.height, sum(segment.work for segment in segments)
    for k in range(first, len(segments)):
        before = sum(segment.work for segment in segments[:k])

        def progress(done: int, total: int, before: int = before, share: int = segments[k].work) -> None:
            callbacks.progress(height * (before * total + share * done) // (work * total), height)

        missing = [index for index, is_there in enumerate(there[k]) if not is_there]
        executor(segments[k], places[k], _runs(missing), replace(callbacks, progress=progress))
        remove_segments(outputs[0].folder, {strips.segment for strips in spilled[k:]})


def _whole(place: tuple[Strips, ...]) -> list[bool]:
    """Whether each strip is there, of all that are made together; what is damaged is removed."""
    for strips in place:
        strips.forget_damaged()
    return [all(there) for there in zip(*(strips.made() for strips in place))]


def _make(job: Job, strips: tuple[Strips, ...], run: range, callbacks: Callbacks) -> None:
    """As `make_strips`, with the memory that there is."""
    first, rows = strips[0].part(run.start)[0], _height(strips[0], run)
    shown = -1

    def done(share: float) -> None:
        nonlocal shown
        if (now := int(share * rows)) > shown:
            shown = now
            callbacks.progress(now, rows)

    with torch.inference_mode(), one_thread_here(), _Writer(strips, run, callbacks) as writer:
        for outputs in job.rows((first, first + rows), done):
            writer.write(outputs)
    done(1.0)


class _Writer:
    """Cuts rows into strips, and writes those that are full in a thread of its own."""

    def __init__(self, strips: tuple[Strips, ...], run: range, callbacks: Callbacks):
        self.strips, self.callbacks = strips, callbacks
        self.writers = [StripWriter(each, run) for each in strips]
        self.row, self.stop = strips[0].part(run.start)[0], strips[0].part(run.stop - 1)[1]
        self.current: tuple[Strip, ...] = ()
        self.counts: dict[str, float] = defaultdict(int)
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
        self.counts["undefined"] += outputs[0].undefined
        while self.row < min(self.stop, top + outputs[0].pixels.shape[1]):
            if not self.current:
                index = self.row // self.strips[0].rows
                self.current = tuple(each.new(0, index) for each in self.strips)
            place = self.row % self.strips[0].rows
            rows = min(self.current[0].height - place, top + outputs[0].pixels.shape[1] - self.row)
            part = slice(self.row - top, self.row - top + rows)
            for strip, given in zip(self.current, outputs):
                mask = given.mask if given.mask_band is None else given.mask_band
                strip.put(place, given.pixels[:, part], None if mask is None else mask[:, part])
            mask = outputs[0].mask
            self.counts["valid"] += (rows * outputs[0].pixels.shape[2] if mask is None
                                     else int(np.count_nonzero(mask[:, part].max(0))))
            if (clipped := outputs[0].clipped) is not None:
                clipped = clipped[:, part] if mask is None else clipped[:, part] & (mask[:, part] != 0)
                self.counts["clipped"] += int(np.count_nonzero(clipped))
            self.row += rows
            if place + rows == self.current[0].height:
                self.queue.put((self.current, self.counts))
                self.current, self.counts = (), defaultdict(int)

    def _drain(self) -> None:
        """One strip is gathered and one waits while another is written."""
        while (item := self.queue.get()) is not None:
            if self.failure:
                continue  # keep emptying the queue, so that the producer does not block
            strips, counts = item
            try:
                now = time.monotonic()
                counts["seconds"], self.started = round(now - self.started, 3), now
                for writer, strip in zip(self.writers, strips):
                    writer.add(strip, counts)
                self.callbacks.log({"event": "strip", **self.strips[0].log_record(strips[0].index), **counts})
            except BaseException as error:
                self.failure.append(error)


def _height(strips: Strips, run: range) -> int:
    return strips.part(run.stop - 1)[1] - strips.part(run.start)[0]


def _runs(numbers: list[int]) -> list[range]:
    """Consecutive numbers together."""
    groups = ([number for _, number in group]
              for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]))
    return [range(each[0], each[-1] + 1) for each in groups]
