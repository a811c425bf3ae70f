"""What a run tells: a progress bar on a terminal, plain lines on a pipe, JSON lines for programs."""

import json
import os
import sys
import time

import click


class Reporter:
    """Plain lines on stderr; the base of the other two, and what a pipe gets."""

    interval = 5.0

    def __init__(self):
        self.started = self.shown = time.monotonic()

    def progress(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if done < total and now - self.shown < self.interval:
            return
        self.shown = now
        self.show(done, total, text, now - self.started)

    def show(self, done: int, total: int, text: str, seconds: float) -> None:
        left = seconds / done * (total - done) if done else 0
        click.echo(f"{text}: {done} of {total} rows, {100 * done / total:.0f} %, {_clock(left)} left", err=True)

    def message(self, text: str) -> None:
        click.echo(text, err=True)

    def result(self, text: str) -> None:
        """What was asked for, to standard output; for programs a message."""
        click.echo(text)

    def done(self, outputs: dict[str, str]) -> None:
        for text in outputs.values():
            click.echo(text)

    def failed(self, sentence: str, code: int) -> None:
        self.close()
        click.echo(f"Error: {sentence}" if code != 130 else sentence, err=True)

    def restart(self) -> None:
        self.started = self.shown = time.monotonic()

    def close(self) -> None:
        """Ends what is on the screen."""


class Bar(Reporter):
    """A progress bar with rate and time left, by rich."""

    def __init__(self):
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                            TextColumn("{task.fields[unit]}  {task.fields[rate]}"), TimeRemainingColumn(),
                            console=Console(stderr=True), transient=True)
        self.task = None

    def progress(self, done: int, total: int, text: str) -> None:
        unit = "steps" if text.startswith("train") else "rows"
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(text, total=total, unit=unit, rate="")
        seconds = max(time.monotonic() - self.started, 1e-3)
        self.bar.update(self.task, completed=done, total=total, description=text, unit=unit,
                        rate=f"{done / seconds:.1f} {unit}/s")

    def message(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

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

    def show(self, done: int, total: int, text: str, seconds: float) -> None:
        self._send("progress", done=done, total=total, text=text)

    def message(self, text: str) -> None:
        self._send("message", text=text)

    result = message

    def done(self, outputs: dict[str, str]) -> None:
        self._send("done", outputs=list(outputs))

    def failed(self, sentence: str, code: int) -> None:
        if code == 130:
            self._send("cancelled")
        else:
            self._send("failed", text=sentence, exit_code=code)

    def _send(self, event: str, **facts) -> None:
        self.stream.write(json.dumps({"event": event, **facts}) + "\n")
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


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
