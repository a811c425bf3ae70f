"""Commands of geoi2i in the worker: its events become progress, messages and one sentence at the end."""

import json
import os
import shlex
import shutil
import signal
import subprocess  # nosec B404 # programs are started from lists, no shell
import sys
import time

from qgis.core import QgsProcessingException

from . import environment, process
from .text import tr
from .words import clock, plain

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker_boot.py")
PARTS = ".geoi2i-parts"
_MOST_LINES = 1000
_OFTEN_S, _SELDOM_S = 5.0, 60.0
"""How long until rate and time left are told again: the log keeps every line."""


def run(arguments, feedback, outputs=(), if_cancelled=None, labels=None):
    """Runs `geoi2i ARGUMENTS` and follows it.

    Args:
        arguments: list of text.
        feedback: QgsProcessingFeedback.
        outputs: files that the command is to write; what is left of an unfinished one is removed.
        if_cancelled: what to say after a cancel, where not that nothing was left.
        labels: option of the command line -> label of the form, for messages.

    Returns:
        What the command printed, as lines.

    Raises:
        QgsProcessingException: one sentence, whatever went wrong; nothing half-written is left.
    """
    try:
        python = environment.interpreter()
    except environment.NoInterpreter as error:
        raise QgsProcessingException(str(error)) from error
    parts = [path + PARTS for path in outputs if not os.path.lexists(path + PARTS)]  # what is there is not of this run
    command = [python, "-I", "-u", "-X", "utf8", BOOT, *arguments]
    shown = [getattr(word, "shown", word) for word in command]
    feedback.pushCommandInfo(subprocess.list2cmdline(shown) if sys.platform == "win32" else shlex.join(shown))
    feedback.setProgressText(tr("Starting Python and torch ..."))
    listener = _Listener(feedback, labels or {})
    try:
        status = process.run(command, environment.clean(os.environ), feedback, listener.hear)
    except process.Ended:
        _remove(parts)
        raise QgsProcessingException(if_cancelled or tr("Cancelled; nothing was left under the output's name.")
                                     ) from None
    except OSError as error:
        raise QgsProcessingException(tr("{} cannot be started ({}): choose another interpreter under Settings > "
                                        "Options > Processing > Providers > GeoI2I.").format(
                                            python, error.strerror)) from error
    except BaseException:
        _remove(parts)
        raise
    missing = [path for path in outputs if not os.path.exists(path)]
    if status or listener.failure or missing:
        _remove(parts)
        last = plain(listener.last, listener.labels)
        raise QgsProcessingException(listener.failure or _epitaph(status, last, missing))
    return listener.printed


class _Listener:
    """What the worker says, line by line."""

    def __init__(self, feedback, labels):
        self.feedback, self.labels = feedback, labels
        self.failure, self.printed, self.last, self.heard = None, [], "", 0
        self.text, self.told, self.pause = None, 0.0, _OFTEN_S

    def hear(self, stream, line):
        event = _event(line) if stream == "out" else None
        if event is None:
            self._overhear(stream, line)
        elif event["event"] == "progress":
            self.feedback.setProgress(100 * min(max(event["done"] / max(event["total"], 1), 0), 1))
            self._progress(event)
        elif event["event"] == "message":
            say = self.feedback.pushWarning if event.get("level") == "warning" else self.feedback.pushInfo
            say(plain(event["text"], self.labels))
        elif event["event"] == "failed":
            self.failure = plain(event["text"], self.labels)

    def _progress(self, event):
        """The stage at once, its pace now and then."""
        now = time.monotonic()
        if event["text"] != self.text:
            self.text, self.told, self.pause = event["text"], now, _OFTEN_S
            self.feedback.setProgressText(plain(self.text, self.labels))
        elif now - self.told >= self.pause and _is_number(event.get("rate")) and _is_number(event.get("seconds_left")):
            self.told, self.pause = now, min(2 * self.pause, _SELDOM_S)
            self.feedback.setProgressText(tr("{}: {:.3g} {}/s, {} left").format(
                plain(self.text, self.labels), event["rate"], event.get("unit") or "", clock(event["seconds_left"])))

    def _overhear(self, stream, line):
        self.last = line or self.last
        self.heard += 1
        if stream == "out" and self.heard <= _MOST_LINES:
            self.printed.append(line)
        if self.heard < _MOST_LINES:
            self.feedback.pushConsoleInfo(plain(line, self.labels))
        elif self.heard == _MOST_LINES:
            self.feedback.pushConsoleInfo(tr("(more than {} lines; the rest is left out)").format(_MOST_LINES))


def _event(line):
    """An event of the protocol, or None for any other line."""
    needed = {"progress": {"done": _is_number, "total": _is_number, "text": _is_text}, "message": {"text": _is_text},
              "failed": {"text": _is_text}, "done": {}, "cancelled": {}}
    try:
        event = json.loads(line)
        fields = needed[event["event"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return event if all(fits(event.get(key)) for key, fits in fields.items()) else None


def _is_number(value):
    return isinstance(value, (int, float)) and abs(value) < 1e15  # NaN is not


def _is_text(value):
    return isinstance(value, str)


def _epitaph(status, last, missing):
    """Why a worker ended that did not say it itself."""
    if status < 0:
        name = signal.Signals(-status).name if -status in list(signal.Signals) else str(-status)
        why = {"SIGKILL": tr("killed, often for lack of memory: choose a smaller window side or a part of the raster"),
               "SIGSEGV": tr("a crash in a library: run Check installation")}.get(name, tr("ended from outside"))
        return tr("The worker was ended by {} ({}).").format(name, why)
    if status == 0:
        return tr("The worker ended without writing {}: run Check installation.").format(", ".join(missing))
    return tr("The worker ended with status {}: {}").format(status, last or tr("it said nothing; run Check "
        "installation."))


def _remove(folders):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # which follows no link
