"""A large scene through a network: the run, what bounds it, what of it runs side by side, and the loop as it is written
without a library for it."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .common import Forced, Job, batches, compile_options, convolutions, scene

GOAL = 0.9


def run(job: Job) -> None:
    """The bounds first, then the runs that are held against them."""
    from geoi2i.core.models.package import ModelPackage

    side = job.sizes.scene_px
    started = time.perf_counter()
    path = scene(job, side)
    job.tell(table="scene", pixels=side * side, bands=4, dtype="uint16", file_mb=os.path.getsize(path) / 1e6,
             seconds_to_make=time.perf_counter() - started)
    package = ModelPackage.load(convolutions(job))
    decode = job.tried("decode bounds", lambda: decoding(job, path))
    alone = job.tried("network bounds", lambda: network_alone(job, package)) or {}
    wall = job.tried("the run", lambda: whole(job, path, package, "auto")) or float("nan")
    if decode and alone:
        bound = max(decode, alone[_auto(job)])
        job.goal("inference, as a share of the slower of network and decoding", f"at least {GOAL}", bound / wall,
                 bound / wall >= GOAL)
    job.tried("copy bounds", lambda: copying(job, path))
    job.tried("overlap", lambda: overlap(job, path, package, wall))
    job.tried("plain loop", lambda: naive(job, path))
    for precision, compiled in (("fp32", False), ("auto", True)):
        if job.fits(f"the run, {precision}{', compiled' * compiled}", 1.5 * wall + 20 * compiled):
            job.tried(f"the run, {precision}", lambda p=precision, c=compiled: whole(job, path, package, p, c))


def whole(job: Job, path: str, package, precision: str, compiled: bool = False) -> float:
    """Seconds of `translate_raster`, from file to Cloud Optimized GeoTIFF; the best of two where there is time."""
    from geoi2i.core.run import Compute, Options, translate_raster

    if compiled and job.toy:
        job.tell(table="left out", what="the run, compiled", why="the compiler's C++ takes half a minute on a CPU")
        return float("nan")
    found = []
    for again in range(2):
        if again and not job.fits(f"the run, {precision}, a second time", 1.2 * found[0]):
            break
        if job.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(job.device)
        started = time.perf_counter()
        translate_raster(path, job.folder / "made.tif", package, Options(overlap=0, precision=precision),
                         compute=Compute(str(job.device), compile=compiled), overwrite=True, resume=False)
        found.append(time.perf_counter() - started)
        job.tell(table="runs", precision=precision, compiled=compiled, round=again + 1, seconds=found[-1],
                 mpx_per_s=job.sizes.scene_px**2 / found[-1] / 1e6,
                 gpu_memory_gb=torch.cuda.max_memory_allocated(job.device) / 1e9 if not job.toy else None)
    return min(found)


def decoding(job: Job, path: str) -> float:
    """Seconds to decode the scene: as the run reads it, and by one reader a core."""
    import rasterio
    from geoi2i.core.raster.source import RasterSource
    from rasterio.windows import Window

    side, cores = job.sizes.scene_px, len(os.sched_getaffinity(0))

    def read(rows: range) -> None:
        with rasterio.open(path) as data:
            for row in rows:
                data.read(window=Window(0, row, side, min(512, side - row)))

    def by_all() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(read, [range(k * 512, side, cores * 512) for k in range(cores)]))

    ways = {"as the run reads": lambda: [rows.row for rows in RasterSource.open(path).rows()],
            "one reader a core": by_all}
    found = {way: job.seconds(work, rounds=1, warm=False) for way, work in ways.items()}
    for way, seconds in found.items():
        job.tell(table="bounds", bound=f"decoding, {way}", seconds=seconds, mpx_per_s=side**2 / seconds / 1e6)
    return min(found.values())


def network_alone(job: Job, package) -> dict[str, float]:
    """Seconds of the network alone over as many windows as the scene has, by precision, at the best batch."""
    tiling, sizes = package.manifest.tiling(job.sizes.tile_px, 0), job.sizes
    windows = len(tiling.spans(sizes.scene_px)) ** 2
    length, found = sizes.tile_px + 2 * tiling.lattice_margin, {}
    for precision in ("fp32", "bf16"):
        network = package.translator(job.device, precision).network
        ways = {"": network}
        if job.fits(f"the network alone, {precision}, compiled", 40):
            ways[", compiled"] = torch.compile(network, **compile_options(job))
        for (way, call), count in ((each, count) for each in ways.items() for count in sizes.batches):
            shown = torch.rand(count, 4, length, length, device=job.device)
            shown = shown.contiguous(memory_format=torch.channels_last)

            def work(call=call, shown=shown) -> None:
                with torch.inference_mode(), Forced(False):
                    call(shown, torch.zeros(len(shown), device=shown.device), None)

            seconds = job.tried(f"{precision}{way}, batch {count}", lambda work=work: job.seconds(work))
            if seconds:
                seconds *= windows / count
                found[precision] = min(found.get(precision, np.inf), seconds if not way else np.inf)
                job.tell(table="bounds", bound=f"network alone, {precision}{way}, batch {count}", seconds=seconds,
                         mpx_per_s=sizes.scene_px**2 / seconds / 1e6)
    return found


def copying(job: Job, path: str) -> None:
    """Seconds to bring the scene to the device and back, and of GDAL to copy it to the same kind of file."""
    import rasterio
    import rasterio.shutil
    from _inference_programs import COG

    side, rows = job.sizes.scene_px, min(512, job.sizes.scene_px)
    band, times = torch.zeros(4, rows, side, dtype=torch.int16), side // rows
    there = torch.empty_like(band, device=job.device)
    kinds = {"pageable": band, **({"pinned": band.pin_memory()} if not job.toy else {})}
    for name, buffer in kinds.items():
        for way, copy in (("to the device", lambda b=buffer: there.copy_(b, non_blocking=True)),
                          ("from the device", lambda b=buffer: b.copy_(there, non_blocking=True))):
            seconds = job.seconds(copy) * times
            job.tell(table="bounds", bound=f"copy {way}, {name}", seconds=seconds, mpx_per_s=side**2 / seconds / 1e6)
    if job.fits("GDAL's copy to a COG", 30):
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
            seconds = job.seconds(lambda: rasterio.shutil.copy(path, job.folder / "copy.tif", driver="COG", **COG),
                                  rounds=1, warm=False)
        job.tell(table="bounds", bound="GDAL's copy to a COG, all cores", seconds=seconds,
                 mpx_per_s=side**2 / seconds / 1e6)
        Path(job.folder / "copy.tif").unlink()


def overlap(job: Job, path: str, package, wall: float) -> None:
    """Reading, computing and writing each by itself, against the run: 1 where the run takes as long as the longest."""
    from geoi2i.core.output.execute import save_raster
    from geoi2i.core.pipeline.outputs import describe_output
    from geoi2i.core.pipeline.passes import run_passes, whole_input
    from geoi2i.core.raster.rows import Rows
    from geoi2i.core.raster.source import RasterSource
    from geoi2i.core.run import Compute, Options, plan_translation

    plan = plan_translation(path, package, Options(overlap=0), Compute(str(job.device)))
    held = [Rows(rows.row, rows.pixels, rows.mask) for rows in RasterSource.open(path).rows()]

    def compute() -> None:
        """From rows in memory to numbers on the device."""
        given = replace(plan, raster=_Held(plan.raster, held))
        with torch.inference_mode():
            for _, moments in run_passes(given, whole_input(plan), (0, plan.read.height), lambda share: None):
                plan.radiometry.to_stored(moments)

    found = {"read": job.seconds(lambda: [r.row for r in RasterSource.open(path).rows()], rounds=1, warm=False),
             "compute": job.seconds(compute, rounds=1, warm=False),
             "write": job.seconds(lambda: save_raster(job.folder / "made.tif", describe_output(plan), iter(held), True),
                                  rounds=1, warm=False)}
    total, longest = sum(found.values()), max(found.values())
    job.tell(table="overlap", batch=plan.compute.batch, precision=plan.options.precision, **found, run=wall,
             overlapped=(total - wall) / (total - longest))


class _Held:
    """A raster whose rows are in memory."""

    def __init__(self, raster, held):
        self.raster, self.held = raster, held

    def __getattr__(self, name):
        return getattr(self.raster, name)

    def rows(self, window=None, part=None):
        return iter(self.held)


def naive(job: Job, path: str) -> None:
    """rasterio windows through torch one by one, blended in memory, on some rows of the scene; its time for all."""
    import rasterio
    from _inference_programs import SCALE, network, stored, write
    from rasterio.windows import Window

    side, tile, rows = job.sizes.scene_px, job.sizes.tile_px, job.sizes.naive_rows
    overlap, model = tile // 8, network().to(job.device)
    profile = np.sin(np.pi * (np.arange(tile, dtype=np.float32) + 0.5) / tile) ** 2
    weight = np.outer(profile, profile)
    places = [(min(row, rows - tile), min(col, side - tile)) for row in range(0, rows - overlap, tile - overlap)
              for col in range(0, side - overlap, tile - overlap)]

    def loop(count: int) -> None:
        with rasterio.open(path) as data, torch.inference_mode():
            total, weights = np.zeros((4, rows, side), np.float32), np.zeros((rows, side), np.float32)
            for some in batches(places, count):
                pixels = np.stack([data.read(window=Window(col, row, tile, tile)) for row, col in some])
                shown = torch.from_numpy(pixels.astype(np.float32) * np.float32(SCALE)).to(job.device)
                for (row, col), result in zip(some, model(shown).cpu().numpy()):
                    part = slice(row, row + tile), slice(col, col + tile)
                    total[:, *part] += result * weight
                    weights[part] += weight
            write(str(job.folder / "naive.tif"), {**data.profile, "height": rows}, stored(total / weights))

    for count in (1, 16):
        if job.fits(f"the plain loop, batch {count}", 30):
            seconds = job.seconds(lambda count=count: loop(count), rounds=1, warm=False) * side / rows
            job.tell(table="runs", precision=f"plain loop, fp32 as torch has it, batch {count}, from {rows} rows",
                     compiled=False, round=1, seconds=seconds, mpx_per_s=side**2 / seconds / 1e6)


def _auto(job: Job) -> str:
    from geoi2i.core.device import choose_precision

    return choose_precision("auto", job.device)
