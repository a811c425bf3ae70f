"""How outputs are made and delivered: one or many, here or on a cluster, resumed, with a log."""

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from .batch import run_batch

_MEMORY = ".geoi2i-batch.jsonl"
_MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Settings:
    """What the options of `delivery_options` say."""

    resume: bool = True
    log: str | None = None
    workers: int | None = None
    scheduler: str | None = None
    skip_existing: bool = False
    skip_empty: bool = False


def delivery_options(command: Callable) -> Callable:
    """Adds the options; the command gets them as `settings`."""

    @functools.wraps(command)
    def with_settings(*arguments, resume, log, workers, scheduler, skip_existing, skip_empty, **more):
        if workers and scheduler:
            raise click.UsageError("--workers starts a cluster and --scheduler names one that runs: give one of them.")
        if skip_existing and more["overwrite"]:
            raise click.UsageError("--skip-existing keeps outputs that exist and --overwrite replaces them: give one.")
        settings = Settings(resume, log, workers, scheduler, skip_existing, skip_empty)
        return command(*arguments, settings=settings, **more)

    for option in (
            click.option("--scheduler", metavar="ADDRESS",
                         help="Let the workers of this Dask scheduler make the strips, for example tcp://node1:8786."),
            click.option("--workers", type=click.IntRange(min=1), metavar="N",
                         help="Make the strips in N processes on this machine.  [default: in this one]"),
            click.option("--log", metavar="FILE", help="Append what happens to each strip, as lines of JSON."),
            click.option("--skip-empty", is_flag=True, help="Write no output that would have no valid pixel."),
            click.option("--skip-existing", is_flag=True,
                         help="Make only the outputs that do not exist yet; keep the others."),
            click.option("--no-resume", "resume", is_flag=True, default=True, flag_value=False,
                         help="Discard what an interrupted run has left, and leave nothing when interrupted.")):
        with_settings = option(with_settings)
    return with_settings


def deliver_all(pairs: list[tuple[str, Path]], work: Callable[..., dict[str, str]], reporter, settings: Settings,
                verb: str, batch: bool, then: Callable[[], dict[str, str]] | None = None) -> int:
    """Makes every output and says what became of each.

    Args:
        work: called as `work(source, target, resume=, executor=, completed=, skip_empty=, callbacks=)`; returns what it
            wrote, by path.
        verb: what is done, for the progress: "translating".
        batch: whether they are done one after the other, whatever fails, also where it is one.
        then: called after a single one, for what goes with it.

    Returns:
        The exit code.
    """
    record = _recorder(settings.log)
    finished: dict[str, str] = {}
    if settings.skip_existing:
        there = {str(target): f"Kept {target}" for _, target in pairs if target.is_file() and not target.is_symlink()}
        finished |= there
        pairs = [(source, target) for source, target in pairs if str(target) not in there]
    if not pairs:
        reporter.done(finished)
        return 0
    from ..core.device import reused_memory
    from ..core.errors import EmptyRasterError
    from ..core.run import Callbacks

    completed = _batch_record(pairs, settings.resume) if len(pairs) > 1 else None

    def message(sentence: str, say: Callable[[str], None] = reporter.message) -> None:
        say(sentence)
        record({"event": "message", "text": sentence})

    usual = Callbacks(message=message, log=record, warning=lambda sentence: message(sentence, reporter.warning))

    with _cluster(settings) as cluster:
        at_once = min(_MOST_AT_ONCE, len(pairs), cluster.size + 1) if cluster else 1

        def one(source: str, target: Path) -> None:
            text = f"{verb} {Path(source).name}"
            if at_once == 1:
                reporter.restart()
                callbacks = replace(usual, progress=lambda done, total: reporter.progress(done, total, text))
            else:
                callbacks = usual
            try:
                with reused_memory():
                    finished.update(work(source, target, resume=settings.resume, completed=completed,
                                         skip_empty=settings.skip_empty, callbacks=callbacks,
                                         executor=cluster.make if cluster else None))
            except EmptyRasterError as error:
                if not settings.skip_empty:
                    raise
                message(str(error))
            if at_once == 1:
                reporter.close()

        if batch or len(pairs) > 1:
            return run_batch(pairs, one, reporter, finished, completed=completed, at_once=at_once,
                             stop=cluster.stop if cluster else None)
        one(*pairs[0])
    finished.update(then() if then and finished else {})
    reporter.done(finished)
    return 0


@contextlib.contextmanager
def _cluster(settings: Settings):
    if not (settings.workers or settings.scheduler):
        yield None
        return
    try:
        import distributed  # noqa: F401

        if settings.workers:
            import cryptography  # noqa: F401
    except ImportError as error:
        raise click.ClickException(f"A cluster needs further packages ({error.name} is missing): "
                                   "pip install 'geoi2i[dask]'.") from error
    from ..core.output.dask_cluster import existing_cluster, local_cluster

    logging.disable()  # what a user needs to know of lost connections, we say
    with (local_cluster(settings.workers) if settings.workers else existing_cluster(settings.scheduler)) as cluster:
        yield cluster


def _batch_record(pairs: list[tuple[str, Path]], resume: bool):
    """What remembers the outputs of a batch that are finished, beside them; None where that is not wanted."""
    from ..core.output.completed import CompletedOutputs

    folder = Path(os.path.commonpath([target.absolute().parent for _, target in pairs]))
    folder.mkdir(parents=True, exist_ok=True)
    completed = CompletedOutputs(folder / _MEMORY)
    if not resume:
        completed.forget()
    return completed if resume else None


def _recorder(path: str | None) -> Callable[[dict], None]:
    """Writes what happened, with its time, to the log if there is one."""
    if not path:
        return lambda entry: None
    from ..core.writing import appending

    log = appending(Path(path))

    def record(entry: dict) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
        log.write(json.dumps(line).encode() + b"\n")
        log.flush()

    return record
