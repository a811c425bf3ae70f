"""Commands of geoi2i in the worker: its events become progress, messages and one sentence at the end."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

from qgis.core import QgsProcessingException

from . import environment, process
from .text import tr

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker_boot.py")
PARTS = ".geoi2i-parts"
_MOST_LINES = 1000


def run(arguments, feedback, outputs=(), if_cancelled=None):
    """Runs `geoi2i ARGUMENTS` and follows it.

    Args:
        arguments: list of text.
        feedback: QgsProcessingFeedback.
        outputs: files that the command is to write; what is left of an unfinished one is removed.
        if_cancelled: what to say after a cancel, where not that nothing was left.

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
    feedback.pushCommandInfo(subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command))
    listener = _Listener(feedback)
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
        raise QgsProcessingException(listener.failure or _epitaph(status, listener.last, missing))
    return listener.printed


class _Listener:
    """What the worker says, line by line."""

    def __init__(self, feedback):
        self.feedback, self.failure, self.printed, self.last, self.text, self.heard = feedback, None, [], "", None, 0

    def hear(self, stream, line):
        event = _event(line) if stream == "out" else None
        if event is None:
            self._overhear(stream, line)
        elif event["event"] == "progress":
            self.feedback.setProgress(100 * min(max(event["done"] / max(event["total"], 1), 0), 1))
            if event["text"] != self.text:  # once a stage: the log keeps every line
                self.text = event["text"]
                self.feedback.setProgressText(self.text)
        elif event["event"] == "message":
            self.feedback.pushInfo(event["text"])
        elif event["event"] == "failed":
            self.failure = event["text"]

    def _overhear(self, stream, line):
        self.last = line or self.last
        self.heard += 1
        if stream == "out" and self.heard <= _MOST_LINES:
            self.printed.append(line)
        if self.heard < _MOST_LINES:
            self.feedback.pushConsoleInfo(line)
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
        why = {"SIGKILL": tr("killed, often for lack of memory: choose a smaller TILE or a part of the raster"),
               "SIGSEGV": tr("a crash in a library: run Check installation")}.get(name, tr("ended from outside"))
        return tr("The worker was ended by {} ({}).").format(name, why)
    if status == 0:
        return tr("The worker ended without writing {}: run Check installation.").format(", ".join(missing))
    return tr("The worker ended with status {}: {}").format(status, last or tr("it said nothing; run Check "
        "installation."))


def _remove(folders):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # which follows no link
