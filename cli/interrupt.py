"""Ending a run by a signal, wherever it is: the first asks, and after five seconds or a second one the process ends.

Python runs its handlers between its own instructions, and so not while the main thread is inside GDAL, HDF5 or torch.
The interpreter notes each signal in a pipe at once, though, and a thread reads that.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

GRACE_S = 5.0
"""How long the first signal leaves for an orderly end."""
_CODE = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ending_by_signals() -> Iterator[None]:
    """While it holds, SIGINT and SIGTERM raise KeyboardInterrupt, and end the process where that is not heeded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    if os.name != "nt":  # where nothing asks for it
        os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_watch, args=(reader,), name="geoi2i-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the thread


def _watch(reader: int) -> None:
    """Reads the numbers of signals until the other end is closed."""
    asked = False
    while numbers := os.read(reader, 64):
        for _ in [number for number in numbers if number in _SIGNALS]:
            if asked:
                _end()
            asked = True
            timer = threading.Timer(GRACE_S, _end)
            timer.daemon = True
            timer.start()
    os.close(reader)


def _end() -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"Interrupted; the process was ended at once.\n")
    os._exit(_CODE)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt
