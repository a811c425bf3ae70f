"""How a run grows: time and memory against pixels, processes, and how well it foresees its end.

    python benchmarks/scale.py [--size 60000] [--kinds identity network] [--write docs/results/scale.md]

A sparse raster of size x size pixels and its quarter and sixteenth are translated by the identity and by a tiny
network; each run is a process of its own. Memory is that of the process with all its children, at its highest.
Needs about 3 GB of disk; at 60,000 about an hour.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import rasterio
import torch
from affine import Affine
from geoi2i.core.inference.steps import generator_table
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import save_package
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes

sys.path.insert(0, str(Path(__file__).parent))
from _trials import write_page

LINEAR, OVER, ETA = 0.10, 0.10, 0.20
"""How far time may be from a straight line, memory above what was foretold, the foreseen end from the real one."""
REPEATS_BELOW_S, REPEATS = 30, 5
"""Short runs are made several times, and the fastest counts: others had something else on the machine."""


@dataclass(frozen=True)
class Run:
    """One run of the command line."""

    size: int
    kind: str
    workers: int
    seconds: float
    peak_mb: float
    foretold_mb: float
    """What `--dry-run` said."""
    eta_errors: tuple[float, ...]
    """Foreseen end against the real one, as a share of the whole time, at every report after the first tenth."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=60_000)
    parser.add_argument("--kinds", nargs="+", default=["identity", "network"])
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geoi2i-scale-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        folder = Path(folder)
        model = tiny_model(folder / "model")
        runs = []
        for part in (4, 2, 1):
            size = arguments.size // part
            scene = sparse_scene(folder / f"{size}.tif", size)
            for kind in arguments.kinds:
                for workers in (0, 2) if part == 2 else (0,):
                    runs.append(typical(scene, folder / "out.tif", size, kind, model, workers))
                    print(runs[-1].size, kind, workers, f"{runs[-1].seconds:.1f} s", f"{runs[-1].peak_mb:.0f} MB",
                          flush=True)
            scene.unlink()
    text = page(runs, arguments.kinds, arguments.size)
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


def sparse_scene(path: Path, size: int) -> Path:
    """Noise in every eighth block of 512 pixels of each eighth row of blocks; the file holds nothing of the others."""
    generator = np.random.default_rng(0)
    with rasterio.open(path, "w", driver="GTiff", height=size, width=size, count=1, dtype="uint8", tiled=True,
                       blockxsize=512, blockysize=512, sparse_ok=True, bigtiff="IF_SAFER", compress="deflate",
                       crs="EPSG:32631", transform=Affine(10, 0, 300_000, 0, -10, 5_000_000)) as out:
        for row in range(0, size - 512, 8 * 512):
            for col in range(0, size - 512, 8 * 512):
                block = generator.integers(1, 255, (512, 512), "uint8")
                out.write(block, 1, window=rasterio.windows.Window(col, row, 512, 512))
    return path


def tiny_model(folder: Path) -> Path:
    """A generator of four channels, with random weights."""
    torch.manual_seed(0)
    network = ResnetGenerator(ResnetSizes(bands_in=1, bands_out=1, width=4, blocks=0, levels=1, style=4, embedding=8))
    band, reach = (BandSpec(name="grey", minimum=0, maximum=255),), {"kind": "range", "minimum": [0], "maximum": [255]}
    save_package(folder, Manifest(
        name="tiny", title="Random weights", licence="CC0-1.0", bands_in=band, bands_out=band,
        network=NetworkSpec(name="resnet", sizes=dict(network.sizes)), table=generator_table(), normalise_in=reach,
        normalise_out=reach, margin_px=network.radius_px, multiple_of=network.stride, tile_px=512, dtype="uint8"),
        network)
    return folder


def typical(scene: Path, output: Path, size: int, kind: str, model: Path, workers: int) -> Run:
    """The fastest of several runs, or the only one where it is long."""
    runs = [measured(scene, output, size, kind, model, workers)]
    while runs[0].seconds < REPEATS_BELOW_S and len(runs) < REPEATS:
        runs.append(measured(scene, output, size, kind, model, workers))
    return min(runs, key=lambda run: run.seconds)


def foretold(command: list[str]) -> float:
    """Megabytes of memory that a dry run says."""
    plain = [word for word in command if word not in ("--events", "json")]
    said = subprocess.run([*plain, "--dry-run"], capture_output=True, text=True, check=True).stdout
    value, unit = re.search(r"memory +about ([0-9.]+) (.B)", said).groups()
    return float(value) * {"MB": 1, "GB": 1000}[unit]


def measured(scene: Path, output: Path, size: int, kind: str, model: Path, workers: int) -> Run:
    """Runs the command line and watches it."""
    command = [sys.executable, "-m", "geoi2i", "run", "-i", str(scene), "-o", str(output), "-m",
               str(model) if kind == "network" else "identity", "--device", "cpu", "--events", "json", "--overwrite",
               *(["--workers", str(workers)] if workers else [])]
    said = foretold(command)
    started, peak, foreseen = time.monotonic(), 0, []
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.set_blocking(process.stdout.fileno(), False)
    while process.poll() is None:
        time.sleep(0.1)
        peak = max(peak, memory(process))
        for line in iter(process.stdout.readline, ""):
            event = json.loads(line)
            if event["event"] == "progress" and event.get("seconds_left") and event["done"] > event["total"] / 10:
                foreseen.append(time.monotonic() - started + event["seconds_left"])
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(process.stderr.read())
    output.unlink()
    return Run(size, kind, workers, seconds, peak / 1e6, said, tuple(f / seconds - 1 for f in foreseen))


def memory(process: psutil.Process) -> int:
    """Bytes that a process and its children hold; what they share counts once for each."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def page(runs: list[Run], kinds: list[str], size: int) -> str:
    """The page of results."""
    lines = ["# How a run grows", "",
             f"`python benchmarks/scale.py --size {size}`, {datetime.date.today()}, {processor()}, {os.cpu_count()} "
             f"cores, torch {torch.__version__}, no GPU. A sparse raster of one 8-bit band; the tiny network has four "
             "channels. Memory is that of the process with its children, at its highest, beside what `--dry-run` said "
             f"of one process. Runs of less than {REPEATS_BELOW_S} s were made {REPEATS} times, and the fastest "
             "counts; longer ones once. The last column is the worst error of the end that the run foresaw, from a "
             "tenth of the way on, as a share of the whole time with its start.", "",
             "| model | pixels | processes | time | ns a pixel | peak memory | foretold | error of the foreseen end |",
             "|---|---|---|---|---|---|---|---|"]
    for run in sorted(runs, key=lambda r: (kinds.index(r.kind), r.workers, r.size)):
        worst = max(map(abs, run.eta_errors), default=None)
        said = "-" if run.workers else f"{run.foretold_mb:.0f} MB"
        lines.append(f"| {run.kind} | {run.size:,}² | {run.workers or 1} | {run.seconds:.1f} s | "
                     f"{1e9 * run.seconds / run.size**2:.1f} | {run.peak_mb:.0f} MB | {said} | "
                     f"{'-' if worst is None else f'{100 * worst:.0f} %'} |")
    lines.append("")
    for kind in kinds:
        alone = {run.size: run for run in runs if run.kind == kind and not run.workers}
        small, middle, large = sorted(alone)
        # The first rows, imports and the start of threads cost the same at every size.
        slopes = [(alone[b].seconds - alone[a].seconds) / (b**2 - a**2) for a, b in ((small, middle), (middle, large))]
        off, whole = slopes[1] / slopes[0] - 1, alone[large]
        missed = max(map(abs, whole.eta_errors), default=0.0)
        lines.append(f"- {kind}: from {small:,}² to {middle:,}² a further pixel takes {1e9 * slopes[0]:.2f} ns, from "
                     f"there to {large:,}² {1e9 * slopes[1]:.2f} ns ({100 * off:+.0f} %; linear within "
                     f"{100 * LINEAR:.0f} %: {kept(abs(off) <= LINEAR)}). Memory at {large:,}²: {whole.peak_mb:.0f} "
                     f"MB, foretold {whole.foretold_mb:.0f} (at most {100 * OVER:.0f} % more: "
                     f"{kept(whole.peak_mb <= (1 + OVER) * whole.foretold_mb)}). The end was foreseen within "
                     f"{100 * missed:.0f} % (at most {100 * ETA:.0f}: {kept(missed <= ETA)}).")
        two = next((run for run in runs if run.kind == kind and run.workers == 2), None)
        if two:
            lines.append(f"- {kind}, two processes of one thread each at {two.size:,}²: {two.seconds:.1f} s, against "
                         f"{alone[two.size].seconds:.1f} s of one process with {os.cpu_count()} threads.")
    return "\n".join([*lines, "", THOUSAND_WORKERS])


def kept(holds: bool) -> str:
    return "yes" if holds else "**no**"


def processor() -> str:
    facts = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", facts.read_text()) if facts.exists() else None
    return found[1] if found else platform.processor()


THOUSAND_WORKERS = """## A thousand workers and a petapixel: arithmetic

Not measured; what the design implies for 10^15 pixels of three 8-bit bands (3 PB raw, perhaps 1.5 PB compressed).

- **The cut.** A strip is as wide as its raster and 512 rows high, and a worker holds about four of them. One raster
  of 31.6 million pixels a side would have strips of 49 GB: it must come as many files. With 100,000 x 100,000 pixels
  a file these are 100,000 files of 196 strips, 154 MB each: 2 x 10^7 strips, and some 1.5 GB of memory a worker.
- **Scheduler.** Runs of 32 strips make 6 x 10^5 tasks (files are scheduled one by one, so that a run never spans
  two). A task is one message of about 20 kB out and one of 1 kB back: 13 GB in all. If a worker made 50 million
  pixels a second, a thousand would need 20,000 s, and the scheduler would see 30 tasks a second; Dask bears
  some thousand.
- **Shared disk.** Strips are written once, read once and written again as files: 4.5 PB of traffic, 225 GB/s over
  those 20,000 s. Each strip takes two files, each made, synced and renamed: 2 x 10^8 changes of folders, 10^4 a
  second.
- **Reading.** With block rows of 512 a strip is read in one pass, and its neighbours' margins again: with one step
  of tile 512 about 3 % more at 32 strips a run. At 16 MB a request 2 x 10^8 requests, 10^4 a second.
- **What gives first** is the client: it alone puts files together. 1.5 PB at 1 GB/s take 17 days, 75 times as long
  as the workers need. Next come the folders of the shared disk, then the scheduler. So for more than about ten
  workers that are as fast as this, divide the files among several clients; each takes its own list of inputs.
"""

if __name__ == "__main__":
    main()
