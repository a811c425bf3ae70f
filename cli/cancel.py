"""Ending a run from outside: by the word `cancel` on standard input, or by its end when the caller is gone."""

import os
import signal
import sys
import threading
import time

watching = False


def watch_stdin() -> None:
    """From now on standard input interrupts the run, as Ctrl-C does on a terminal."""
    global watching
    watching = True
    threading.Thread(target=_wait, name="geoi2i-cancel", daemon=True).start()


def _wait() -> None:
    heard = b""
    while b"cancel" not in heard:
        if not _readable():
            time.sleep(0.2)
            continue
        # Not `sys.stdin`: a thread that waits in it keeps the interpreter from ending.
        more = os.read(0, 1024)
        if not more:
            break
        heard = heard[-16:] + more
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def _readable() -> bool:
    """Whether reading will not wait. Windows holds back every library that loads while a thread waits in a pipe."""
    if sys.platform != "win32":
        return True
    import ctypes
    import msvcrt

    count = ctypes.c_ulong()
    open_ = ctypes.windll.kernel32.PeekNamedPipe(msvcrt.get_osfhandle(0), None, 0, None, ctypes.byref(count), None)
    return not open_ or count.value > 0
