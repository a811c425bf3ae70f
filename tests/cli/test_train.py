"""`geoi2i train --sweep` as a user meets it."""

import numpy as np
import pytest
import rasterio
from affine import Affine

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(tmp_path):
    pixels = np.random.default_rng(0).integers(20, 200, (2, 96, 64), dtype=np.uint8)
    for name, values in (("a", pixels), ("b", pixels // 2 + 30)):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", count=2, height=96, width=64, dtype="uint8",
                           crs="EPSG:32631", transform=Affine(30, 0, 500_000, 0, -30, 4_500_000)) as out:
            out.write(values)
    return ["--source", tmp_path / "a.tif", "--target", tmp_path / "b.tif", "--device", "cpu"]


def test_a_sweep_trains_once_for_each_value_compares_them_and_goes_on_where_it_stopped(geoi2i, pair, tmp_path):
    command = ["train", "plain", *pair, "-o", tmp_path / "run", "--steps", "3", "--set", "data.window_px=16", "--set",
               "data.validation=0.3", "--set", "network.sizes.width=4"]
    done = geoi2i(*command, "--sweep", "optimiser.lr=1e-9,0.3", "--sweep", "data.batch=1,2")
    assert done.returncode == 0, done.stderr
    names = [f"lr-{rate}_batch-{batch}" for rate in ("1e-9", "0.3") for batch in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(names)
    assert all((tmp_path / "run" / name / "plain" / "manifest.json").exists() for name in names)
    lines = done.stderr[done.stderr.rindex("On 32 windows of held-out data"):].splitlines()
    assert [line.split()[0] for line in lines[1:]][:4] != [] and all(
        any(name in line for line in lines) for name in (*names, "linear", "identity"))
    again = geoi2i(*command, "--sweep", "optimiser.lr=1e-9,0.3", "--sweep", "data.batch=1,2")
    assert again.returncode == 0 and "The first step" not in again.stderr


@pytest.mark.parametrize("sweep, message", [
    ("optimiser.lr=1e-4,fast", "optimiser.lr"), ("optimiser.lr=1e-4", "different values"),
    ("optimiser.lr=1,1", "different values"), ("optimiser.speed=1,2", "optimiser.speed")])
def test_a_sweep_that_cannot_be_is_refused_before_the_first_training(geoi2i, pair, tmp_path, sweep, message):
    done = geoi2i("train", "plain", *pair, "-o", tmp_path / "run", "--sweep", sweep)
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "run").exists()
