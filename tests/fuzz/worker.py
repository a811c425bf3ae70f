"""The child that runs cases: it makes the seeds once, then takes names of cases and says what became of each.

It speaks over two pipes, one JSON object a line; everything that a case prints goes to a file.
"""

import contextlib
import errno
import faulthandler
import http.server
import importlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import sys
import threading
import traceback
import warnings
from collections import namedtuple
from pathlib import Path

from layouts import as_json, place
from seeds import SECRET, all_seeds, secret_hdf5
from trespass import listing, trespass

ROOT = Path(__file__).resolve().parents[2]
ROOM_BYTES = 64 << 20
"""What the disk is said to have free: a raster that claims to be huge is refused instead of written."""
MEMORY_BYTES = 1_500_000_000
"""What memory is said to be free, on every machine."""
_DATA_BYTES = 6 << 30


_ANEW = ("in", "out", "victim")


def main(requests, answers, root: Path) -> None:
    os.environ.update(HOME=str(root / "home"), TMPDIR=str(root / "tmp"), XDG_DATA_HOME=str(root / "home"))
    for name in ("home", "tmp", "cwd", *_ANEW):
        (root / name).mkdir()
    (root / "secret.bin").write_bytes(SECRET * 500)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # windows one after the other: the same stack every time
    seeds, server = _prepared(), _Server()
    (root / "secret.h5").write_bytes(secret_hdf5())
    captured = open(root / "said", "w+b", buffering=0)
    for number in (1, 2):
        os.dup2(captured.fileno(), number)
    faulthandler.enable(captured, all_threads=True)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in requests:
        request = json.loads(line)
        answers.write(json.dumps(_run(request, seeds, server, root, captured, answers)) + "\n")


def _prepared():
    """The seeds, with everything imported that a case may need."""
    import torch

    for name in ("cli.main", "core.evaluation.evaluate", "core.evaluation.report", "core.run", "training.recipe"):
        importlib.import_module(f"geoi2i.{name}")
    torch.set_num_threads(1)
    warnings.resetwarnings()
    warnings.simplefilter("always")  # else the second case that warns at a place would pass
    warnings.showwarning = _show_warning
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    seeds = all_seeds()
    usage = namedtuple("usage", "total used free")
    shutil.disk_usage = lambda path: usage(2 * ROOM_BYTES, ROOM_BYTES, ROOM_BYTES)
    # Not the address space, of which libraries reserve much: what is promised to this process as its own.
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return seeds


def _run(request, seeds, server, root: Path, captured, answers) -> dict:
    from cases import claimed_work, content_of, from_entry, lay_out, make_case

    if "entry" in request:
        case = from_entry(request["entry"], Path(request["path"]).read_bytes())
    else:
        case = make_case(request["kind"], request["key"], seeds, frozenset(request["dropped"]))
    if request.get("only_make"):
        return {"outcome": "made", "was": None, "peak": 0, "content": case.content.hex()}
    answers.write(json.dumps({"began": True, "mutations": case.mutations, "count": case.count, "seed": case.seed,
                              "victim": case.victim, "arguments": case.arguments, "rehash": case.rehash,
                              "layout": as_json(case.layout), "work": claimed_work(case)}) + "\n")
    for name in _ANEW:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    lay_out(case, seeds, root / "in", server.url)
    os.mkfifo(root / "in" / "pipe")
    os.chdir(root / "cwd")
    _say_memory()
    own = place(case.layout, root, lambda name: content_of(name, seeds),
                lambda number: _begin(case, root, server.url, number)) if case.kind == "layout" else set()
    captured.seek(0)
    captured.truncate()
    before, asked = listing(root), server.asked
    start = _memory("VmRSS", reset=True)
    code, problem = _call(case, root, server.url)
    peak = _memory("VmHWM") - start
    captured.seek(0)
    said = captured.read().decode("utf-8", "replace")
    problem = problem or _judge(code, said) or trespass(root, before, own, code, case)
    if server.asked != asked and case.kind not in ("options", "list"):  # there the user named the server
        problem = problem or "asked a server for data"
    warned = re.search(r"^\w+Warning in (no file of ours|[^\s:]+:[^\s:]+)", said, re.M)
    problem = problem or (warned and warned[0])
    outcome = "finding" if problem else "done" if code == 0 else "refused"
    return {"outcome": outcome, "was": problem, "code": code, "peak": peak, "said": said[-4000:]}


def _call(case, root: Path, url: str) -> tuple[int, str | None]:
    """Exit code and, for an exception, its type and place."""
    from cases import filled

    out = str(root / "out").encode()
    arguments = [os.fsdecode(filled(text.encode("utf-8", "surrogatepass"), root / "in", url).replace(b"@OUT@", out))
                 for text in case.arguments]
    with open(root / "in" / "list.txt" if case.kind == "list" else os.devnull, "rb") as given:
        os.dup2(given.fileno(), 0)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8", errors="strict")
    try:
        _target(arguments)
    except SystemExit as end:
        return end.code or 0, None
    except BaseException as error:
        traceback.print_exc()
        return 1, f"{type(error).__name__} in {_place(error)}"
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):
                stream.flush()
        import geoi2i.cli.events as events

        if isinstance(events._reporter, events.JsonLines):
            events._reporter.stream.close()
            os.dup2(2, 1)
        events._reporter = None
    return 0, None


def _begin(case, root: Path, url: str, number: int) -> None:
    """Begins a run that fails when it moves a file for that many times, as on a disk that is full from then on."""
    usual, calls = (os.replace, os.rename), itertools.count(1)

    def failing(move):
        def may_fail(*arguments, **more):
            if next(calls) >= number:
                raise OSError(errno.ENOSPC, "No space left on device")
            move(*arguments, **more)

        return may_fail

    os.replace, os.rename = map(failing, usual)
    try:
        _call(case, root, url)
    finally:
        os.replace, os.rename = usual


def _say_memory() -> None:
    """Says how much memory is free to every module that asks, whenever it was imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith("geoi2i.") and "available_memory" in vars(module):
            module.available_memory = lambda: MEMORY_BYTES


def _target(arguments: list[str]) -> None:
    import plugin_side

    if arguments[0] == "events":
        return plugin_side.hear(Path(arguments[1]).read_bytes())
    if arguments[0] == "plugin":
        return plugin_side.describe(arguments[1])
    if arguments[0] == "python":  # how the tests see that a breach is noticed
        return exec(arguments[1], {})
    from geoi2i.cli.main import main

    main(arguments)


def _place(error: BaseException) -> str:
    """The innermost function of ours that an exception passed through."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(frames) -> str:
    ours = [f for f in frames if f.filename.startswith(f"{ROOT}/") and not re.search(r"/(tests|\.venv)/", f.filename)]
    return f"{ours[-1].filename.removeprefix(f'{ROOT}/')}:{ours[-1].name}" if ours else "no file of ours"


def _show_warning(message, category, *_) -> None:
    print(f"{category.__name__} in {_innermost(traceback.extract_stack())}: {message}", file=sys.stderr)


def _judge(code: int, said: str) -> str | None:
    """What is wrong with an exit code and with what was said."""
    thrown = re.search(r"Traceback|Exception in thread|Exception ignored", said)
    if thrown:
        last = re.findall(rf'File "{ROOT}/((?!tests|\.venv)[^"]+)", line \d+, in (\w+)', said)
        return f"{thrown[0]} in {':'.join(last[-1]) if last else 'no file of ours'}"
    if code not in (0, 2, 3):
        return f"exit code {code}"
    if code:
        told = re.search(r"^Error: (.+)\Z|\"event\": \"failed\", \"text\": \"(.*)\", \"exit_code\": [23]\}\Z",
                         said.strip(), re.M | re.S)
        if not told:
            return "no sentence at the end"
        sentence = told[1] or json.loads(f'"{told[2]}"')
        lines = sentence.split("\n")
        table = len(lines) > 2 and all(line.startswith("  ") for line in lines[1:-1])
        if not (len(lines) == 1 or table) or len(sentence) > 50_000:
            return "more than a sentence"  # or than a sentence, a table and a remedy
        if not all(map(str.isprintable, lines)):
            return "a sentence with hidden characters"
    return None


def _memory(name: str, reset: bool = False) -> int:
    """Bytes, as the system counts them; `reset` makes the peak start anew."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text)[1]) << 10


class _Server:
    """A server on this machine that counts who asks."""

    def __init__(self):
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one_request(self):
                outer.asked += 1
                self.close_connection = True

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    with open(int(sys.argv[1]), encoding="utf-8") as given, open(int(sys.argv[2]), "w", buffering=1) as told:
        main(given, told, Path(sys.argv[3]))
