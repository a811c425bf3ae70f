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


def delivery_options(command: Callable) -> Callable:
    """Adds the options; the command gets them as `settings`."""

    @functools.wraps(command)
    def with_settings(*arguments, resume, log, workers, scheduler, **more):
        if workers and scheduler:
            raise click.UsageError("--workers starts a cluster and --scheduler names one that runs: give one of them.")
        return command(*arguments, settings=Settings(resume, log, workers, scheduler), **more)

    for option in (
            click.option("--scheduler", metavar="ADDRESS",
                         help="Let the workers of this Dask scheduler make the strips, for example tcp://node1:8786."),
            click.option("--workers", type=click.IntRange(min=1), metavar="N",
                         help="Make the strips in N processes on this machine.  [default: in this one]"),
            click.option("--log", metavar="FILE", help="Append what happens to each strip, as lines of JSON."),
            click.option("--no-resume", "resume", is_flag=True, default=True, flag_value=False,
                         help="Discard what an interrupted run has left, and leave nothing when interrupted.")):
        with_settings = option(with_settings)
    return with_settings


def deliver_all(pairs: list[tuple[str, Path]], work: Callable[..., dict[str, str]], reporter, settings: Settings,
                verb: str, then: Callable[[], dict[str, str]] | None = None) -> int:
    """Makes every output and says what became of each.

    Args:
        work: called as `work(source, target, resume=, executor=, completed=, callbacks=)`; returns what it wrote, by
            path.
        verb: what is done, for the progress: "translating".
        then: called after a single one, for what goes with it.

    Returns:
        The exit code.
    """
    from ..core.device import reused_memory
    from ..core.run import Callbacks

    record = _recorder(settings.log)
    finished: dict[str, str] = {}
    completed = _batch_record(pairs, settings.resume) if len(pairs) > 1 else None

    def message(sentence: str, say: Callable[[str], None] = reporter.message) -> None:
        say(sentence)
        record({"event": "message", "text": sentence})

    told = Callbacks(message=message, log=record, warning=lambda sentence: message(sentence, reporter.warning))

    with _cluster(settings) as cluster:
        at_once = min(_MOST_AT_ONCE, len(pairs), cluster.size + 1) if cluster else 1

        def one(source: str, target: Path) -> None:
            text = f"{verb} {Path(source).name}"
            if at_once == 1:
                reporter.restart()
                callbacks = replace(told, progress=lambda done, total: reporter.progress(done, total, text))
            else:
                callbacks = told
            with reused_memory():
                finished.update(work(source, target, resume=settings.resume, completed=completed, callbacks=callbacks,
                                     executor=cluster.make if cluster else None))
            if at_once == 1:
                reporter.close()

        if len(pairs) > 1:
            return run_batch(pairs, one, reporter, finished, completed=completed, at_once=at_once,
                             stop=cluster.stop if cluster else None)
        one(*pairs[0])
    finished.update(then() if then else {})
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
