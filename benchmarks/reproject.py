"""Reprojection against gdalwarp, rasterio.warp, odc-geo and rioxarray: time, memory, error of position.

    python benchmarks/reproject.py [--size 8192] [--rounds 3] [--write docs/results/reproject.md]

Every program writes the same COG (ZSTD, overviews) onto the same grid, and does the same work: kernels are not
widened. Peers that are not installed are left out: pip install -e ".[benchmark]"; apt install gdal-bin.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from inference import ProgramError, Run, measure, missing, spread

HERE = Path(__file__).resolve().parent
SYSTEMS = ("EPSG:3857", "EPSG:32633", "EPSG:4326")
KERNELS = ("bilinear", "cubic")
GDAL_COG = ["-of", "COG", *(f"-co {k}={v}" for k, v in (
    ("COMPRESS", "ZSTD"), ("LEVEL", "1"), ("PREDICTOR", "YES"), ("BLOCKSIZE", "512"), ("NUM_THREADS", "ALL_CPUS"),
    ("OVERVIEW_RESAMPLING", "AVERAGE")))]
TARGETS = {("gdalwarp", "bilinear"): 1.2, ("gdalwarp", "cubic"): 1.0, ("gdalwarp-exact", "bilinear"): 2.5,
           ("gdalwarp-exact", "cubic"): 1.8}
"""How many times faster than each we mean to be."""
LABELS = {"geoi2i": "**geoi2i reproject --tolerance 0.01**", "gdalwarp": "gdalwarp -multi -et 0.125",
          "gdalwarp-exact": "gdalwarp -multi -et 0", "rasterio_warp": "rasterio.warp", "odc_geo": "odc-geo",
          "rioxarray_warp": "rioxarray", "copy_cog": "bound: GDAL copy of the scene to a COG"}


def command(name: str, job: dict) -> list[str]:
    """How a program is started."""
    if name == "geoi2i":
        return [sys.executable, "-m", "geoi2i", "reproject", "--input", job["scene"], "--output", job["output"],
                "--like", job["like"], "--resampling", job["resampling"], "--tolerance", "0.01", "--device", "cpu",
                "--no-antialias", "--overwrite"]
    if name.startswith("gdalwarp"):
        grid = job["grid"]
        return ["gdalwarp", "-q", "-overwrite", "-multi", "-wo", "NUM_THREADS=ALL_CPUS", "-et",
                "0" if name.endswith("exact") else "0.125", "-wo", "XSCALE=1", "-wo", "YSCALE=1", "-r",
                job["resampling"], "-t_srs", job["crs"], "-te", *grid["te"], "-ts", *grid["ts"],
                *" ".join(GDAL_COG).split(), job["scene"], job["output"]]
    page = Path(job["folder"]) / "job.json"
    page.write_text(json.dumps(job))
    return [sys.executable, str(HERE / "_reproject_programs.py"), name, str(page)]


def run(name: str, job: dict) -> Run:
    log = Path(job["folder"]) / "last.log"
    return measure(command(name, job), {"GDAL_NUM_THREADS": "ALL_CPUS"}, log)


def grid_of(path: str) -> dict[str, list[str]]:
    """Extent and size as gdalwarp's options."""
    import rasterio

    with rasterio.open(path) as data:
        return {"te": [repr(float(v)) for v in data.bounds], "ts": [str(data.width), str(data.height)]}


def compare(names: list[str], job: dict, rounds: int, failed: dict[str, str]) -> dict[str, list[Run]]:
    """Every program once a round, in the same order."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _, name in itertools.product(range(rounds), names):
        if name in failed:
            continue
        try:
            runs[name].append(run(name, {**job, "output": str(Path(job["folder"]) / f"{name}.tif")}))
        except ProgramError as error:
            failed[name] = str(error)
            continue
        last = runs[name][-1]
        print(f"{job['crs']} {job['resampling']} {name}: {last.wall:.1f} s, CPU {last.cpu:.1f} s, "
              f"{last.rss_mib:.0f} MiB", flush=True)
    return {name: done for name, done in runs.items() if done and name not in failed}


def errors(names: list[str], job: dict, failed: dict[str, str]) -> dict[str, dict]:
    """Error of position of each program, on a smaller raster that holds its own positions."""
    found = {}
    small = {**job, "scene": str(Path(job["folder"]) / "positions.tif"), "size": 2048, "resampling": "bilinear",
             "like": str(Path(job["folder"]) / "small-like.tif")}
    run("positions", small)
    run("like", small)
    small["grid"] = grid_of(small["like"])
    for name in names:
        small["output"] = str(Path(job["folder"]) / f"small-{name}.tif")
        try:
            run(name, small)
            found[name] = run("error", small).answer
        except ProgramError as error:
            failed[name] = str(error)
    return found


def table(runs: dict[str, list[Run]], found: dict[str, dict], failed: dict[str, str]) -> list[str]:
    lines = ["| program | wall s | its wall / geoi2i's | CPU s | peak MiB | error px: max, 99 % |",
             "|---|---|---|---|---|---|"]
    for name, label in LABELS.items():
        if name in failed:
            lines.append(f"| {label} | not run: {failed[name][:80].replace('|', ' ')} | | | | |")
        if name not in runs:
            continue
        done = runs[name]
        ratios = [its.wall / ours.wall for its, ours in zip(done, runs["geoi2i"])]
        error = f"{found[name]['max']:.2g}, {found[name]['p99']:.2g}" if name in found else "-"
        lines.append(f"| {label} | {spread([r.wall for r in done], 1)} | {spread(ratios, 2)} | "
                     f"{median(r.cpu for r in done):.1f} | {max(r.rss_mib for r in done):.0f} | {error} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS))
    parser.add_argument("--programs", nargs="+", default=list(LABELS), choices=list(LABELS))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    failed = {name: why for name, modules in (("odc_geo", "odc.geo, rioxarray"), ("rioxarray_warp", "rioxarray"))
              if (why := missing(modules.replace(",", "")))}
    if not shutil.which("gdalwarp"):
        failed |= {name: "gdalwarp is not installed" for name in ("gdalwarp", "gdalwarp-exact")}
    sections, verdicts = [], ["| target | at least | measured | |", "|---|--:|--:|---|"]
    with tempfile.TemporaryDirectory(prefix="geoi2i-reproject-") as folder:
        job = {"folder": folder, "scene": str(Path(folder) / "scene.tif"), "size": arguments.size}
        run("scene", job)
        for crs in arguments.systems:
            job |= {"crs": crs, "like": str(Path(folder) / "like.tif")}
            run("like", job)
            job["grid"] = grid_of(job["like"])
            names = [name for name in arguments.programs if name not in failed]
            found = errors([name for name in names if name != "copy_cog"], job, failed)
            for kernel in arguments.kernels:
                runs = compare(names, job | {"resampling": kernel}, arguments.rounds, failed)
                sections += [f"## UTM 32 to {crs}, {kernel}", "", *table(runs, found, failed), ""]
                for (peer, of), bound in TARGETS.items():
                    if of == kernel and peer in runs:
                        ratios = [its.wall / ours.wall for its, ours in zip(runs[peer], runs["geoi2i"])]
                        verdict = "met" if median(ratios) >= bound else "**not met**"
                        verdicts.append(f"| {crs} {kernel}: {LABELS[peer]} / geoi2i | {bound} | {spread(ratios, 2)} | "
                                        f"{verdict} |")
    version = "-" if "gdalwarp" in failed else subprocess.run(
        ["gdalwarp", "--version"], capture_output=True, text=True, check=False).stdout.split(",")[0]
    import rasterio
    import torch

    head = ["# Reprojection: time, memory, error of position", "",
            "Made by `python benchmarks/reproject.py --write`; do not edit.", "",
            f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used, torch {torch.__version__}, "
            f"rasterio {rasterio.__version__} (GDAL {rasterio.__gdal_version__}), gdalwarp of {version}. A scene of "
            f"{arguments.size} x {arguments.size} x 4 uint16 (deflate, tiles of 512) onto the grid that gdalwarp would "
            f"choose; every program writes a COG with ZSTD and overviews, in a process of its own, "
            f"{arguments.rounds} rounds in rotation; kernels are not widened. Wall: median [range]; ratios are paired "
            "within a round. The error of position is measured on a raster that holds its own coordinates, against "
            "PROJ at every pixel; storing them in float32 adds about 0.0001.", ""]
    text = "\n".join([*head, *sections, "## Targets", "", *verdicts, ""])
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
