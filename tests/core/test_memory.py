"""Law of memory: what a run needs at its peak does not depend on the height of the raster."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio

pytestmark = pytest.mark.slow

PROGRAM = """
import resource, sys
from geoi2i.core.models.package import ModelPackage, identity_package
from geoi2i.core.run import Compute, Options, translate_raster
source, target, model, samples = sys.argv[1:]
package = ModelPackage.load(model) if model else identity_package(1)
translate_raster(source, target, package, Options(tile=256, samples=int(samples)), compute=Compute(device="cpu"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

EVALUATION = """
import os, resource, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # two workers need most at once by chance only
from geoi2i.core.evaluation.evaluate import EvaluationOptions, evaluate
evaluate(sys.argv[1], reference=sys.argv[1], targets=[sys.argv[1]], options=EvaluationOptions(seams=0))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(program, *arguments):
    """Peak resident memory of a program in a process of its own."""
    run = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True,
                         env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1])


def tall(folder, height):
    """A raster of noise, 256 pixels wide."""
    path = str(folder / f"{height}.tif")
    texture = np.random.default_rng(0).integers(0, 256, (1, 1000, 256), "uint8")
    with rasterio.open(path, "w", driver="GTiff", count=1, height=height, width=256, dtype="uint8",
                       crs="EPSG:32631", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as out:
        for row in range(0, height, 1000):
            out.write(texture, window=rasterio.windows.Window(0, row, 256, 1000))
    return path


@pytest.mark.parametrize("networked, samples, heights, most", [
    # Ten times the height has three or four overviews more, of some MB each; as floats it would be 184 MB.
    (False, 1, (20_000, 200_000), 1.25), (False, 3, (20_000, 200_000), 1.25), (True, 1, (4_000, 40_000), 1.15)])
def test_peak_memory_does_not_depend_on_the_height(tmp_path, make_package, make_network, networked, samples, heights,
                                                   most):
    model = str(make_package(steps=1, bands=1, maximum=255.0, minimum=0.0,
                             network=make_network(1, levels=0)).folder) if networked else ""
    peaks = []
    for height in heights:
        target = tmp_path / f"{height}-out.tif"
        peaks.append(peak_kib(PROGRAM, tall(tmp_path, height), target, model, samples))
        with rasterio.open(target) as data:
            assert data.shape == (height, 256)
    assert peaks[1] <= most * peaks[0]


def test_an_evaluation_needs_no_more_memory_for_a_taller_raster(tmp_path):
    peaks = [peak_kib(EVALUATION, tall(tmp_path, height)) for height in (4_000, 40_000)]
    assert peaks[1] <= 1.10 * peaks[0]
