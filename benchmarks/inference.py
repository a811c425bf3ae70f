"""geoi2i against other ways to run a network over a raster, and against what the machine allows.

    python benchmarks/inference.py [--size 8192] [--rounds 2] [--network net|identity|both]
                                   [--programs NAME ...] [--write docs/results/inference.md]

Every program is a process of its own, run in rotation (A B C A B C); wall time, CPU time and peak memory
are the kernel's account of that process (`wait4`). This file starts and counts; what is run is in
`_inference_programs.py`. A peer that cannot be imported is named in the table and left out:

    pip install onnxruntime onnx onnxscript tiler opensr-utils
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "67108864"}
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Program:
    """One line of the table."""

    label: str
    call: str
    """Name in `_inference_programs.py`."""
    group: str = "net"
    environment: dict[str, str] = field(default_factory=dict)
    job: dict = field(default_factory=dict)
    needs: str = ""
    """Modules that must be importable, separated by spaces."""


PROGRAMS = {
    "geoi2i": Program("**geoi2i**, tile 512", "geoi2i"),
    "naive": Program("rasterio + torch loop", "naive"),
    "naive-tuned": Program("rasterio + torch loop, allocator tuned", "naive", environment=TUNED),
    "onnxruntime": Program("onnxruntime loop, centre crop", "onnx_loop", needs="onnxruntime onnx onnxscript"),
    "opensr": Program("opensr-utils", "opensr", needs="opensr_utils.pipeline"),
    "opensr-tuned": Program("opensr-utils, allocator tuned", "opensr", environment=TUNED,
                            needs="opensr_utils.pipeline"),
    "tiler": Program("tiler", "tiler", needs="tiler"),
    "geoi2i-1024": Program("geoi2i, tile 1024", "geoi2i", job={"tile": 1024}),
    "identity": Program("**geoi2i run --model identity**", "", group="identity"),
    "compute": Program("bound: the network alone", "compute", environment=TUNED | {"MALLOC_ARENA_MAX": "1"}),
    "copy-cog": Program("bound: GDAL copy to the same COG", "copy_cog", group="both"),
    "copy-plain": Program("bound: GDAL copy to deflate GeoTIFF", "copy_plain", group="both"),
}
# Target, program it is about, program(s) it is measured against (walls are added), largest ratio.
TARGETS = [
    ("wall / tuned rasterio + torch loop", "geoi2i", ("naive-tuned",), 0.6),
    ("wall / tuned opensr-utils", "geoi2i", ("opensr-tuned",), 0.6),
    ("wall / onnxruntime loop", "geoi2i", ("onnxruntime",), 0.95),
    ("wall / (network alone + copy to COG)", "geoi2i", ("compute", "copy-cog"), 1.15),
    ("wall / (network alone + copy to deflate)", "geoi2i", ("compute", "copy-plain"), 1.15),
    ("identity: wall / copy to COG", "identity", ("copy-cog",), 1.3),
    ("identity: wall / copy to deflate", "identity", ("copy-plain",), 1.3),
]
FLAT = 1.1
"""Peak memory at the full height may be this much of that at a quarter of it."""


STEADY_PX = 8192


@dataclass(frozen=True)
class Run:
    """What one process cost."""

    wall: float
    cpu: float
    rss_mib: float
    others: float
    """Cores that other processes kept busy meanwhile."""
    answer: dict


class ProgramError(Exception):
    """A program ended with an error; the message is the last line it wrote."""


def measure(command: list[str], environment: dict[str, str], log: Path) -> Run:
    """Runs a process to its end and reads the kernel's account of it; the disk has nothing left to write before."""
    os.sync()
    busy, started = machine_busy(), time.perf_counter()
    with open(log, "w") as errors, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **environment}) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise ProgramError((log.read_text().strip().splitlines() or [f"exit status {process.returncode}"])[-1])
    cpu = usage.ru_utime + usage.ru_stime
    last = (output.decode().strip().splitlines() or ["{}"])[-1]
    answer = json.loads(last) if last.startswith("{") else {}
    return Run(wall, cpu, usage.ru_maxrss / 1024, max(0.0, (machine_busy() - busy - cpu) / wall), answer)


def machine_busy() -> float:
    """CPU seconds that all processes have used since the machine started."""
    fields = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def call(name: str, job: dict, environment: dict[str, str] | None = None) -> Run:
    """Runs one of `_inference_programs.py` in the job's folder."""
    log = Path(job["folder"]) / "last.log"
    page = Path(job["folder"]) / "job.json"
    page.write_text(json.dumps(job))
    return measure([sys.executable, str(HERE / "_inference_programs.py"), name, str(page)], environment or {}, log)


def run(name: str, job: dict) -> Run:
    """Runs a line of the table; the identity is the command line as a user types it."""
    program = PROGRAMS[name]
    job = {**job, **program.job, "output": output_of(name, job)}
    if program.call:
        return call(program.call, job, program.environment)
    command = [sys.executable, "-m", "geoi2i", "run", "--input", job["scene"], "--output", job["output"], "--model",
               "identity", "--device", "cpu", "--overwrite"]
    return measure(command, program.environment, Path(job["folder"]) / "last.log")


def output_of(name: str, job: dict) -> str:
    return str(Path(job["folder"]) / f"{name}.tif")


def missing(modules: str) -> str:
    """Why modules cannot be imported; empty where they can."""
    done = subprocess.run([sys.executable, "-c", "; ".join(f"import {name}" for name in modules.split())],
                          capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def make_scene(folder: Path, height: int, width: int) -> str:
    """The scene of this size; made once per folder."""
    path = folder / f"scene-{height}x{width}.tif"
    if not path.exists():
        print(f"making {path}", flush=True)
        call("scene", {"folder": str(folder), "scene": str(path), "height": height, "width": width})
    return str(path)


def rotate(names: list[str], rounds: int, job: dict) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Every program once a round, in the same order; a program that fails is left out from then on."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for index in range(rounds):
        for name in names:
            if name in failed:
                continue
            try:
                result = run(name, job)
            except ProgramError as error:
                failed[name] = str(error)
                print(f"{name}: {error}", flush=True)
                continue
            runs[name].append(result)
            print(f"round {index + 1} {name}: {result.wall:.1f} s, CPU {result.cpu:.1f} s, {result.rss_mib:.0f} MiB, "
                  f"others {result.others:.1f} cores", flush=True)
    return {name: done for name, done in runs.items() if done and name not in failed}, failed


def ratios(runs: dict[str, list[Run]], name: str, against: tuple[str, ...]) -> list[float]:
    """Wall of a program over the summed walls of others, round by round."""
    if any(key not in runs for key in (name, *against)):
        return []
    return [ours.wall / sum(run.wall for run in theirs)
            for ours, *theirs in zip(runs[name], *(runs[key] for key in against))]


def spread(values: list[float], digits: int) -> str:
    """Median and range."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def differences(runs: dict[str, list[Run]], job: dict) -> dict[str, dict]:
    """Every output of the network against the plain loop's, away from the raster's border; identities exactly."""
    found = {}
    loop = next((name for name in ("naive", "naive-tuned") if name in runs), None)
    for name in runs:
        identity = PROGRAMS[name].group != "net"
        if PROGRAMS[name].call == "compute" or not (identity or loop):
            continue
        reference = job["scene"] if identity else output_of(loop, job)
        found[name] = call("compare", {**job, "output": output_of(name, job), "reference": reference,
                                       "edge": 0 if identity else 8, "untiled": not identity}).answer
    return found


def table(group: str, base: str, runs: dict, failed: dict[str, str], found: dict[str, dict]) -> list[str]:
    """Markdown lines for the programs of one group."""
    compared = "loop" if group == "net" else "scene"
    head = ["program", "wall s", "geoi2i's wall / its", "CPU s", "peak MiB", f"vs the {compared}: max, mean"]
    head += ["vs untiled: max, mean"] if group == "net" else []
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, program in PROGRAMS.items():
        if program.group not in (group, "both"):
            continue
        if name in failed:
            lines.append(f"| {program.label} | not run: {failed[name].replace('|', ' ')} |" + " |" * (len(head) - 2))
        if name not in runs:
            continue
        done, difference = runs[name], found.get(name)
        if group == "net" and program.group == "both":
            difference = None  # a copy holds the scene, not the network's output
        cells = [program.label, spread([r.wall for r in done], 1), spread(ratios(runs, base, (name,)), 2),
                 f"{median(r.cpu for r in done):.1f}", f"{max(r.rss_mib for r in done):.0f}",
                 f"{difference['max']}, {difference['mean']:.1g}" if difference else "-"]
        if group == "net":
            cells.append(f"{difference['untiled_max']}, {difference['untiled_mean']:.1g}" if difference else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def target_lines(runs: dict, found: dict[str, dict], memory: dict[str, list[float]]) -> list[str]:
    """One line a target: its bound, what was measured, met or not."""
    lines = ["| target | bound | measured | |", "|---|--:|--:|---|"]
    for text, name, against, bound in TARGETS:
        values = ratios(runs, name, against)
        verdict = "not measured" if not values else "met" if median(values) <= bound else "**not met**"
        lines.append(f"| {text} | {bound} | {spread(values, 2)} | {verdict} |")
    if not memory:
        lines.append(f"| peak memory at full height / at a quarter of it | {FLAT} | - | not measured (needs --size "
                     f"{STEADY_PX}) |")
    for name, (quarter, full) in memory.items():
        ratio = full / quarter
        verdict = "met" if ratio <= FLAT else "**not met**"
        lines.append(f"| {name}: peak memory at full height / at a quarter of it ({full:.0f} / {quarter:.0f} MiB) "
                     f"| {FLAT} | {ratio:.2f} | {verdict} |")
    if "identity" in found:
        worst = found["identity"]["max"]
        verdict = "met" if worst == 0 else "**not met**"
        lines.append(f"| identity: largest difference to the scene | 0 | {worst} | {verdict} |")
    return lines


def memory_by_height(runs: dict, job: dict, folder: Path, size: int) -> dict[str, list[float]]:
    """Peak memory of geoi2i's programs at a quarter of the height and at the full height, same width.

    Only where the quarter is higher than a strip of the output, up to which memory grows by design.
    """
    if size < STEADY_PX:
        return {}
    short = {**job, "scene": make_scene(folder, size // 4, size)}
    return {name: [run(name, short).rss_mib, max(r.rss_mib for r in runs[name])]
            for name in ("geoi2i", "identity") if name in runs}


def machine(versions: dict[str, str], loads: list[float], others: list[float]) -> str:
    """What was measured on, and how quiet it was."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    shown = [f"{name} {versions[name]}" for name in ("torch", "rasterio", "GDAL", "numpy")]
    for name in ("onnxruntime", "opensr-utils", "tiler"):
        try:
            shown.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            shown.append(f"{name} not installed")
    return (f"{datetime.date.today()}, {model}, {len(os.sched_getaffinity(0))} cores, no GPU used, Python "
            f"{platform.python_version()}, {', '.join(shown)}. Load average {loads[0]:.1f} before, {loads[1]:.1f} "
            f"after; while a program ran, other processes kept {spread(others, 1)} cores busy.")


def page(arguments: argparse.Namespace, job: dict, tables: dict[str, list[str]], targets: list[str], inside: float,
         where: str) -> str:
    """The Markdown page."""
    megabytes = os.path.getsize(job["scene"]) / 1e6
    lines = [
        "# Inference: time and memory", "", "Made by `python benchmarks/inference.py --write`; do not edit.", "",
        f"{where}", "",
        f"A synthetic scene of {arguments.size} x {arguments.size} x 4 uint16 ({megabytes:.0f} MB, deflate, tiles of "
        f"512), {arguments.rounds} rounds in rotation, each program a process of its own (imports included). The "
        "network is six 3 x 3 convolutions with 32 channels beside the identity, about 78 kFLOP a pixel, untrained. "
        "Wall: median [range]. Ratios are paired within a round. Peak memory is the largest of all rounds.", "",
        "The loops and the peers read tiles of 512 with an overlap of 64; geoi2i reads the network's radius (6, on "
        "a lattice: 8) as margin and overlaps nothing, which is exact for this network and not for one that sees "
        "its whole window. Loops and `tiler` write deflate, opensr-utils writes uncompressed, geoi2i a COG with "
        "overviews in ZSTD. *Allocator tuned* is `MALLOC_MMAP_MAX_=0` with larger trim and padding thresholds, "
        "which geoi2i sets for itself; how much it brings depends on what a page fault costs on the machine.", ""]
    for title, rows in tables.items():
        lines += [f"## {title}", "", *rows, ""]
    lines += ["Differences are in stored numbers (the scene's span is about 1-9500): *loop* is the rasterio + torch "
              "loop, outermost 8 pixels left out; *untiled* is one pass over the scene's middle.", ""]
    if inside:
        lines += [f"The network alone takes {inside:.1f} s without its process's start and imports.", ""]
    return "\n".join([*lines, "## Targets", "", *targets, ""])


def chosen_programs(arguments: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The programs to run, and why others that were asked for cannot be."""
    groups = {"net": ("net", "both"), "identity": ("identity", "both"), "both": ("net", "identity", "both")}
    names = [name for name, program in PROGRAMS.items() if program.group in groups[arguments.network]
             and (not arguments.programs or name in arguments.programs)]
    reasons = {needs: missing(needs) for needs in {PROGRAMS[name].needs for name in names} if needs}
    absent = {name: reasons[PROGRAMS[name].needs] for name in names if reasons.get(PROGRAMS[name].needs)}
    for name, reason in absent.items():
        print(f"{name} is left out: {reason}", flush=True)
    return [name for name in names if name not in absent], absent


def benchmark(arguments: argparse.Namespace, folder: Path) -> str:
    """Everything from the scene to the page."""
    names, absent = chosen_programs(arguments)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    exports = "onnxruntime" in names
    job = {"folder": str(work), "scene": make_scene(folder, arguments.size, arguments.size), "tile": 512, "overlap": 64,
           "package": str(work / "model"), "onnx": str(work / "model.onnx") if exports else ""}
    versions = call("prepare", job).answer
    loads = [os.getloadavg()[0]]
    runs, failed = rotate(names, arguments.rounds, job)
    loads.append(os.getloadavg()[0])
    failed |= absent
    found = differences(runs, job)
    memory = memory_by_height(runs, job, folder, arguments.size)
    tables = {}
    if arguments.network != "identity":
        tables["Six convolutions"] = table("net", "geoi2i", runs, failed, found)
    if arguments.network != "net":
        tables["Identity"] = table("identity", "identity", runs, failed, found)
    others = [r.others for done in runs.values() for r in done]
    inside = median(r.answer["inside"] for r in runs["compute"]) if "compute" in runs else 0.0
    return page(arguments, job, tables, target_lines(runs, found, memory), inside, machine(versions, loads, others))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="side of the scene in pixels (default: 8192)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each program runs (default: 2)")
    parser.add_argument("--network", choices=["net", "identity", "both"], default="both")
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), metavar="NAME",
                        help=f"only these: {', '.join(PROGRAMS)}")
    parser.add_argument("--folder", type=Path, help="where scenes are kept and outputs written (default: temporary)")
    parser.add_argument("--write", type=Path, help="write the page here")
    arguments = parser.parse_args()
    if arguments.size < 1024 or arguments.rounds < 1:
        parser.error("--size must be at least 1024 and --rounds at least 1.")
    with tempfile.TemporaryDirectory(prefix="geoi2i-benchmark-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        text = benchmark(arguments, folder)
    print(text)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
