"""The parent's side of a worker: it waits for an answer, and ends what takes too long, too much, or dies."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S, LIMIT_BYTES, LARGE = 10.0, 2 << 30, 16 << 20
_START_S, _CASES = 120.0, 1000
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Worker:
    """A child process that runs one case at a time; it is started anew when it is gone or has run many."""

    def __init__(self):
        self.process, self.root, self.ran, self.heard = None, None, 0, b""

    def run(self, request: dict) -> dict:
        """What became of a case: outcome, `was`, and the case's own description."""
        if self.process is None or self.ran >= _CASES:
            self.close()
            self._start()
        self.ran += 1
        self.requests.write(json.dumps(request) + "\n")
        began, base = {}, _resident(self.process.pid)
        started = time.monotonic()
        while True:
            # A row of blocks of a huge raster takes much by itself, and is held several times.
            limit_bytes = LIMIT_BYTES << (began.get("work", 0) > LARGE)
            line, why = self._answer(started, base, limit_bytes)
            if why:
                return {**began, **self._died(why, began)}
            answer = json.loads(line)
            if "began" not in answer:
                if answer["peak"] > limit_bytes:
                    answer |= {"outcome": "finding", "was": f"{answer['peak'] >> 20} MB of memory"}
                return {**began, **answer, "seconds": time.monotonic() - started}
            began, started = answer, time.monotonic()

    def _answer(self, started: float, base: int, limit_bytes: int = LIMIT_BYTES) -> tuple[str, str | None]:
        """A line, or why none comes. Time in which the child waits for a core that others use does not count."""
        before = _waited(self.process.pid)
        while b"\n" not in self.heard:
            if select.select([self.answers], [], [], 0.05)[0]:
                more = os.read(self.answers, 1 << 16)
                if not more:
                    return "", "died"
                self.heard += more
            elif time.monotonic() - started > LIMIT_S + _longest_wait(before, self.process.pid):
                return "", "slow"
            elif _resident(self.process.pid) - base > limit_bytes:
                return "", "much memory"
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode(), None

    def _died(self, why: str, began: dict) -> dict:
        """The end of a worker, and the line of ours that it was in."""
        if why != "died":
            self.process.send_signal(signal.SIGABRT)  # prints every thread's stack
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        said = (self.root / "said").read_bytes().decode("utf-8", "replace")
        stack = said[said.rfind("Fatal Python error") :]
        main = stack[stack.find("Current thread") if why == "died" else stack.find("MainThread") :]
        frames = re.findall(rf'File "{ROOT}/((?!tests|\.venv)[^"]+)", line \d+ in (\w+)', main) or \
            re.findall(rf'File "{ROOT}/((?!tests|\.venv)[^"]+)", line \d+ in (\w+)', stack)
        if why == "died":
            why = signal.Signals(-status).name if status < 0 else f"died with status {status}"
        place = ":".join(frames[0]) if frames else "no file of ours"
        self.close()
        outcome = "large" if why == "slow" and began.get("work", 0) > LARGE else "finding"
        return {"outcome": outcome, "was": f"{why} in {place}", "said": said[-8000:]}

    def _start(self) -> None:
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what is synced there costs nothing
        self.root, self.ran = Path(tempfile.mkdtemp(prefix="geoi2i-fuzz-", dir=folder)), 0
        theirs, requests = os.pipe()
        self.answers, told = os.pipe()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict", "LC_ALL": "C.UTF-8"}
        environment.pop("GEOI2I_MODELS", None)
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(theirs), str(told), str(self.root)],
            pass_fds=(theirs, told), env=environment, stdin=subprocess.DEVNULL)
        os.close(theirs)
        os.close(told)
        self.requests, self.heard = os.fdopen(requests, "w", buffering=1), b""
        if self._answer(time.monotonic() + _START_S - LIMIT_S, base=1 << 62)[1]:  # importing is no case
            self.close()
            raise RuntimeError("The worker does not start: read what tests/fuzz/worker.py printed.")

    def close(self) -> None:
        """Ends the child and removes its folder."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                self.requests.close()
            os.close(self.answers)
            shutil.rmtree(self.root, ignore_errors=True)
        self.process = None


def _waited(pid: int) -> dict[str, float]:
    """Seconds that each thread of a process was ready and had no core (proc(5), schedstat); none where nobody says."""
    waited = {}
    with contextlib.suppress(OSError, ValueError, IndexError):  # threads end meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            waited[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waited


def _longest_wait(before: dict[str, float], pid: int) -> float:
    return max((seconds - before.get(name, 0.0) for name, seconds in _waited(pid).items()), default=0.0)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
