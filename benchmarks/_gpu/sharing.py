"""Two processes on one GPU: each as a user starts it, one after the other and at a time."""

import subprocess
import sys
import time

import numpy as np

from .common import Job, scene

_MODEL = "landsat8-sentinel2"


def run(job: Job) -> None:
    """Wall times, and whether both processes made what one alone makes."""
    side = job.sizes.shared_px
    path = scene(job, side)
    alone = _timed(job, path, ["one"])
    job.tell(table="sharing", processes=1, seconds=alone)
    if not job.fits("two processes", 2.5 * alone):
        return
    both = _timed(job, path, ["two", "three"])
    job.tell(table="sharing", processes=2, seconds=both, of_one_after_the_other=both / (2 * alone))
    one, *others = (_pixels(job.folder / f"{name}.tif") for name in ("one", "two", "three"))
    off = max(int(np.abs(one - other).max()) for other in others)
    job.goal("two processes on one GPU make what one alone makes", "at most 1 DN off", off, off <= 1)


def _timed(job: Job, path: str, names: list[str]) -> float:
    """Seconds until all of the processes have ended."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "geoi2i", "run", "--input", path, "--bands", "1,2,3", "--model", _MODEL,
               "--device", str(job.device), "--force", "--overwrite", "--output"]
    running = [subprocess.Popen([*command, str(job.folder / f"{name}.tif")], text=True, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE) for name in names]
    errors = [process.communicate()[1] for process in running]
    failed = [error.strip().splitlines()[-1] for process, error in zip(running, errors) if process.returncode]
    if failed:
        raise RuntimeError(failed[0])
    return time.perf_counter() - started


def _pixels(path) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as data:
        return data.read().astype("int32")
