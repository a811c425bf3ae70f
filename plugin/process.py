"""A process beside QGIS: its lines as they come, its end on cancel, nothing of it left over."""

import os
import queue
import signal
import subprocess  # nosec B404 # programs are started from lists, no shell
import sys
import threading
import time

import qgis.utils
from qgis.PyQt.QtCore import QCoreApplication, QThread

_PATIENCE_S = (3.0, 10.0)
"""After a request to stop: until SIGTERM, until SIGKILL."""
_LINE = 1 << 16


class Ended(Exception):
    """The process was stopped because the user asked for it."""


def run(command, environment, feedback, on_line):
    """Runs a command to its end, or to its death when `feedback` is cancelled.

    Args:
        command: list of arguments; the process gets "cancel" on its standard input when it should stop.
        environment: of the process.
        feedback: QgsProcessingFeedback.
        on_line: called in this thread with ("out" or "err", text) for every line.

    Returns:
        The exit status; negative: the signal that ended it.

    Raises:
        Ended: after a cancel, when the process is gone.
        OSError: if it cannot be started.
    """
    process = subprocess.Popen(  # nosec B603 # the interpreter that the user has chosen, and words of ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        errors="replace", env=environment, cwd=os.path.expanduser("~"), **_alone())
    lines, deaf = queue.Queue(1000), threading.Event()
    for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
        threading.Thread(target=_read, args=(stream, name, lines, deaf), daemon=True).start()
    app = QCoreApplication.instance()
    # qgis_process notices Ctrl-C only in Qt's event loop, and nothing else turns that while an algorithm runs.
    headless = app is not None and QThread.currentThread() == app.thread() and qgis.utils.iface is None
    stopping, still_open = _Stopping(process), 2
    try:
        while still_open or process.poll() is None:
            if headless:
                QCoreApplication.processEvents()
            if feedback.isCanceled():
                stopping.insist()
            try:
                name, line = lines.get(timeout=0.1)
            except queue.Empty:
                if process.poll() is not None:
                    break  # a child of it may hold the pipes open
                continue
            if line is None:
                still_open -= 1
            else:
                on_line(name, line)
        status = process.wait()
    finally:
        deaf.set()
        _kill(process)
        _close(process.stdin)
    if stopping.asked and status != 0:
        raise Ended()
    return status


class _Stopping:
    """First a word, then SIGTERM, then the end of the whole group."""

    def __init__(self, process):
        self.process, self.asked, self.done = process, None, 0

    def insist(self):
        now = time.monotonic()
        if self.asked is None:
            self.asked = now
            try:
                self.process.stdin.write("cancel\n")
                self.process.stdin.flush()
            except OSError:
                pass
        elif self.done == 0 and now - self.asked > _PATIENCE_S[0]:
            self.done = 1
            if sys.platform != "win32":  # there it would be the end of the parent alone
                self.process.terminate()
        elif self.done == 1 and now - self.asked > _PATIENCE_S[1]:
            self.done = 2
            _kill(self.process)


def _read(stream, name, lines, deaf):
    """Hands lines over until the stream ends or nobody listens."""
    with stream:  # not by whole lines: a process that writes garbage may never end one
        for line in iter(lambda: stream.readline(_LINE), ""):
            if not _offer(lines, (name, line.rstrip("\r\n")), deaf):
                return
    _offer(lines, (name, None), deaf)


def _offer(lines, item, deaf):
    while not deaf.is_set():
        try:
            lines.put(item, timeout=0.2)
            return True
        except queue.Full:
            pass
    return False


def _close(stream):
    try:
        stream.close()
    except OSError:  # what was still to be written has no reader
        pass


def _alone():
    """A group of its own, so that the whole group can be ended, and no window."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _kill(process):
    """Ends what is left of the process and of its children."""
    try:
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)],  # nosec B603 B607 # of Windows
                           check=False, capture_output=True)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    process.wait()
