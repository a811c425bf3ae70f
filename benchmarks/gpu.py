"""The page of figures on one GPU, by one command of eight minutes on a bare machine.

    python3 benchmarks/gpu.py --out DIR [--wheels DIR] [--minutes 8] [--parts NAME ...] [--dry]

The machine needs Python 3.11 or newer, torch, numpy, click and safetensors; what else geoi2i imports comes from the
folder of wheels, which are unpacked and put on the path: no network, no pip. Nothing else is read but the checkout;
rasters are made there. Each part is a process of its own with its share of the time, so that one that hangs, fails or
breaks the GPU's context costs that part alone. Every result is a JSON line at once, and stands in DIR/gpu.json and
DIR/gpu.md from then on. `--dry` goes through everything at toy sizes on a CPU.
"""

import argparse
import importlib
import importlib.util
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = {"machine": 20, "agreement": 100, "inference": 140, "warp": 50, "training": 90, "memory": 25, "sharing": 40}
"""Seconds of eight minutes that each may take at most; the first come first."""
NEEDED = {"rasterio", "pyproj", "affine", "pydantic", "psutil"}
MOST_MIB, PAGE_S, LEAST_S = 60, 5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are put on the path")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--dry", action="store_true", help="toy sizes on a CPU")
    arguments = parser.parse_args()
    started = time.monotonic()
    end = started + 60 * arguments.minutes - PAGE_S
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="geoi2i-gpu-") as folder:
        report = Report(arguments, started)
        report.add({"part": "start", **weights(arguments.wheels)})
        prepare(Path(folder), arguments.wheels)
        stop = time.monotonic()
        for name in arguments.parts:  # what one leaves, those behind it have
            stop += PARTS[name] * arguments.minutes / 8
            report.part(name, Path(folder), min(end, stop), end)
    report.add({"part": "end", "seconds_used": time.monotonic() - started, "page": str(arguments.out / "gpu.md")})


class Report:
    """What was found so far: printed, and kept as JSON and as a page, result by result."""

    def __init__(self, arguments: argparse.Namespace, started: float):
        self.arguments, self.started, self.records = arguments, started, []

    def add(self, record: dict) -> None:
        from _gpu.page import page

        elapsed = time.monotonic() - self.started
        self.records.append(record | {"at_s": round(elapsed, 1)})
        print(json.dumps(self.records[-1]), flush=True)
        command = "make gpu-dry" if self.arguments.dry else "python3 benchmarks/gpu.py"
        for name, text in (("gpu.json", json.dumps(self.records, indent=1)),
                           ("gpu.md", page(self.records, self.arguments.dry, command, elapsed))):
            (self.arguments.out / name).write_text(text, encoding="utf-8")

    def part(self, name: str, folder: Path, end: float, last: float) -> None:
        """Runs a part in a process of its own, until it ends or has to."""
        begun = time.monotonic()
        if last - begun < LEAST_S:
            return self.add({"part": name, "table": "left out", "what": "all of it", "why": "the time is spent"})
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(False)
        process = context.Process(target=work, args=(name, self.arguments.dry, folder, end, sender))
        process.start()
        sender.close()
        try:
            while receiver.poll(max(0.0, end - time.monotonic())):
                self.add({"part": name, **receiver.recv()})
            os.killpg(process.pid, signal.SIGKILL)
            self.add({"part": name, "table": "left out", "what": "the rest",
                      "why": f"stopped after {time.monotonic() - begun:.0f} s"})
        except EOFError:  # it has ended
            process.join()
            if process.exitcode:
                self.add({"part": name, "table": "failed", "what": "its process",
                          "why": f"exit code {process.exitcode}"})
        process.join()
        self.add({"part": name, "seconds_used": time.monotonic() - begun})


def work(name: str, dry: bool, folder: Path, end: float, sender) -> None:
    """A part, in its process."""
    import torch
    from _gpu.common import TOY, Job, Sizes

    os.setsid()  # so that it is stopped with all that it starts

    def tell(**fields) -> None:
        sender.send({key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                     for key, value in fields.items()})

    try:
        if not dry and not torch.cuda.is_available():
            raise SystemExit("torch sees no GPU here: give --dry for the dry run")
        job = Job(tell, torch.device("cpu" if dry else "cuda"), TOY if dry else Sizes(), folder, end)
        importlib.import_module(f"_gpu.{name}").run(job)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        tell(table="failed", what=f"{Path(where.filename).name}:{where.lineno}",
             why=f"{type(error).__name__}: {error}"[:400])
    finally:
        sender.close()


def prepare(folder: Path, wheels: Path | None) -> None:
    """Puts the wheels and the checkout, under its name, on the path of this process and of those that it starts."""
    site, parent = folder / "site", folder / "parent"
    site.mkdir(), parent.mkdir()
    (parent / "geoi2i").symlink_to(ROOT)
    for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    sys.path[:0] = [str(site), str(parent)]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), str(parent), *([before] if before else [])])
    missing = sorted(name for name in NEEDED if importlib.util.find_spec(name) is None)
    if missing:
        raise SystemExit(f"These packages are missing here: {', '.join(missing)}: put their wheels into --wheels.")
    import geoi2i.core.run  # noqa: F401  once, for every part is forked from here; nothing touches the GPU before


def weights(wheels: Path | None) -> dict[str, float]:
    """What had to be brought here, in MiB."""
    skipped = {".git", ".venv", "__pycache__", "out", "runs", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    checkout = 0
    for top, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped
                      and not (wheels and os.path.samefile(os.path.join(top, name), wheels))]
        checkout += sum(os.lstat(os.path.join(top, name)).st_size for name in names)
    brought = sum(path.stat().st_size for path in wheels.glob("*.whl")) if wheels else 0
    total = (checkout + brought) / 2**20
    return {"checkout_mib": round(checkout / 2**20, 1), "wheels_mib": round(brought / 2**20, 1),
            "total_mib": round(total, 1), "within_60_mib": total <= MOST_MIB}


if __name__ == "__main__":
    main()
