"""What a run tells: a progress bar on a terminal, plain lines on a pipe, JSON lines for programs."""

import json
import os
import sys
import time
import unicodedata
from datetime import datetime, timedelta

import click

from ..core.errors import one_line

_STARTING, _FEWEST_SEEN, _MOST_SEEN = 1 / 3, 4, 1024


class Reporter:
    """Plain lines on stderr; the base of the other two, and what a pipe gets."""

    interval = 5.0

    def __init__(self):
        self.restart()

    def progress(self, done: int, total: int, text: str, unit: str = "rows") -> None:
        """Shows how far it is. What was done at the first call after `restart` took no time."""
        now = time.monotonic()
        if not self.seen or done > self.seen[-1][1]:
            self.seen.append((now, done))
            if len(self.seen) > _MOST_SEEN:
                del self.seen[1::2]
        if done < total and now - self.shown < self.interval:
            return
        self.shown = now
        rate = self.rate(now)
        self.show(done, total, text, unit, rate, (total - done) / rate if rate else None)

    def rate(self, now: float) -> float | None:
        """The slope through what was done in the last two thirds of the time: starting and filling a pipeline is no
        pace, and strips of several workers come in bursts."""
        begun = self.seen[0][0]
        late = [seen for seen in self.seen if seen[0] >= begun + _STARTING * (now - begun)]
        late = late if len(late) >= _FEWEST_SEEN else self.seen
        mean = sum(time for time, _ in late) / len(late), sum(made for _, made in late) / len(late)
        spread = sum((time - mean[0]) ** 2 for time, _ in late)
        slope = sum((time - mean[0]) * (made - mean[1]) for time, made in late) / spread if spread else 0.0
        return slope if slope > 0 else None

    def show(self, done: int, total: int, text: str, unit: str, rate: float | None, left: float | None) -> None:
        pace = f", {_number(rate)} {unit}/s, {_clock(left)} left, done at {_time_of_day(left)}" if rate else ""
        line = f"{one_line(text)}: {done} of {total} {unit}, {100 * done / total:.0f} %{pace}"
        click.echo(_shown(line), err=True)

    def message(self, text: str) -> None:
        click.echo(_shown(text), err=True)

    def warning(self, text: str) -> None:
        """A message that should not be missed."""
        self.message(text)

    def result(self, text: str) -> None:
        """What was asked for, to standard output; for programs a message."""
        click.echo(_shown(text))

    def done(self, outputs: dict[str, str]) -> None:
        for text in outputs.values():
            click.echo(_shown(text))

    def failed(self, sentence: str, code: int) -> None:
        self.close()
        sentence = _shown(sentence)
        click.echo(f"Error: {sentence}" if code != 130 else sentence, err=True)

    def restart(self) -> None:
        """From now on progress is that of something else."""
        self.seen: list[tuple[float, int]] = []
        self.shown = time.monotonic()

    def close(self) -> None:
        """Ends what is on the screen."""


class Bar(Reporter):
    """A progress bar with rate and time left, by rich."""

    interval = 0.1

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                            TextColumn("{task.fields[unit]}{task.fields[pace]}"), console=Console(stderr=True),
                            transient=True)
        self.task = None
        super().__init__()

    def show(self, done: int, total: int, text: str, unit: str, rate: float | None, left: float | None) -> None:
        pace = f"  {_number(rate)} {unit}/s  {_clock(left)} left, done at {_time_of_day(left)}" if rate else ""
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(text, total=total, unit=unit, pace=pace)
        self.bar.update(self.task, completed=done, total=total, description=text, unit=unit, pace=pace)

    def message(self, text: str) -> None:
        self.bar.console.print(_shown(text), highlight=False, markup=False)

    def restart(self) -> None:
        super().restart()
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def done(self, outputs: dict[str, str]) -> None:
        self.close()
        super().done(outputs)

    def close(self) -> None:
        self.bar.stop()


class JsonLines(Reporter):
    """One JSON object a line on stdout; everything else that writes to stdout goes to stderr instead."""

    interval = 0.2

    def __init__(self):
        super().__init__()
        sys.stdout.flush()
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # a library's print must not break the protocol

    def show(self, done: int, total: int, text: str, unit: str, rate: float | None, left: float | None) -> None:
        self._send("progress", done=done, total=total, text=text, unit=unit, rate=rate, seconds_left=left)

    def message(self, text: str) -> None:
        self._send("message", text=text)

    def warning(self, text: str) -> None:
        self._send("message", text=text, level="warning")

    result = message

    def done(self, outputs: dict[str, str]) -> None:
        self._send("done", outputs=list(outputs))

    def failed(self, sentence: str, code: int) -> None:
        if code == 130:
            self._send("cancelled")
        else:
            self._send("failed", text=sentence, exit_code=code)

    def _send(self, event: str, **details) -> None:
        self.stream.write(json.dumps({"event": event, **details}) + "\n")
        self.stream.flush()


_reporter: Reporter | None = None


def current() -> Reporter:
    """The reporter in use; plain lines until `choose` was called."""
    return _reporter or Reporter()


def choose(events: str | None) -> Reporter:
    """JSON lines if asked for, a bar on a terminal, plain lines otherwise."""
    global _reporter
    _reporter = JsonLines() if events == "json" else Bar() if sys.stderr.isatty() else Reporter()
    return _reporter


def _shown(text: str) -> str:
    """Text as a terminal may have it: names from elsewhere move no cursor, turn no line and break no encoding."""
    return "".join(c if c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" else "\ufffd" for c in text)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def _time_of_day(left: float) -> str:
    """When it will be done; with the day, where that is not today."""
    now = datetime.now()
    then = now + timedelta(seconds=left)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b %H:%M}"
