"""Laws of the cluster: the bits of one process, whoever makes them and whoever dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Grid
from geoi2i.core.models.package import identity_package
from geoi2i.core.output import execute as delivery
from geoi2i.core.output import strips
from geoi2i.core.output.dask_cluster import Cluster, _tasks, local_cluster
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Callbacks, Compute, Options, reproject_raster, translate_raster

sys.path.insert(0, str(Path(__file__).parent.parent))
from conftest import NORTH_UP, tiny_package, write

CPU = Compute(device="cpu")


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(2) as found:
        yield found


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with a raster of seven strips and a model."""
    folder = tmp_path_factory.mktemp("scene")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 3400, 200), "uint8")
    write(folder / "scene.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    tiny_package(folder / "model", steps=2, minimum=0, maximum=255, dtype="uint8", tile_px=128)
    return folder


@pytest.fixture(autouse=True)
def low_strips(monkeypatch):
    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)


@pytest.fixture(scope="module")
def alone(scene):
    """What one process makes of the scene."""
    from geoi2i.core.models.package import ModelPackage

    before, strips._STRIP_BYTES = strips._STRIP_BYTES, 1
    path = translate_raster(str(scene / "scene.tif"), scene / "alone.tif", ModelPackage.load(scene / "model"),
                            compute=CPU)
    strips._STRIP_BYTES = before
    return path.read_bytes()


def translate(scene, output, **how):
    from geoi2i.core.models.package import ModelPackage

    return translate_raster(str(scene / "scene.tif"), output, ModelPackage.load(scene / "model"), compute=CPU, **how)


def test_a_cluster_makes_the_bits_of_one_process(cluster, scene, alone, tmp_path):
    seen, facts = [], []
    found = translate(scene, tmp_path / "o.tif", executor=cluster.make,
                      callbacks=Callbacks(lambda done, total: seen.append((done, total)), log=facts.append))
    assert found.read_bytes() == alone and os.listdir(tmp_path) == ["o.tif"]
    assert seen[-1] == (3400, 3400) and seen == sorted(seen)
    made = [each for each in facts if each["event"] == "strip"]
    assert sorted(each["strip"] for each in made) == list(range(7)) and len({each["worker"] for each in made}) == 2


def test_reprojection_on_a_cluster_has_the_bits_of_one_process(cluster, scene, tmp_path):
    system = RasterSource.open(str(scene / "scene.tif")).grid.crs
    target = Grid(system, NORTH_UP @ NORTH_UP.rotation(1) @ NORTH_UP.scale(1.3), 2600, 200)
    found = [reproject_raster(str(scene / "scene.tif"), tmp_path / f"{k}.tif", target, device="cpu", executor=execute)
             for k, execute in enumerate((None, cluster.make))]
    assert found[0].read_bytes() == found[1].read_bytes()


def test_a_worker_that_is_killed_costs_nothing(cluster, scene, alone, tmp_path):
    pids, told = cluster.client.run(os.getpid), []

    def kill(done, total):
        if pids:
            os.kill(pids.popitem()[1], signal.SIGKILL)
            pids.clear()

    found = translate(scene, tmp_path / "o.tif", executor=cluster.make, callbacks=Callbacks(kill, log=told.append))
    assert found.read_bytes() == alone and os.listdir(tmp_path) == ["o.tif"]
    cluster.client.wait_for_workers(2, timeout=60)


def test_several_files_share_the_workers(cluster, scene, alone, tmp_path):
    threads = [threading.Thread(target=translate, args=(scene, tmp_path / f"{k}.tif"),
                                kwargs={"executor": cluster.make}) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / f"{k}.tif").read_bytes() == alone for k in range(3))


def test_a_strip_that_cannot_be_read_ends_the_run_after_three_attempts_and_keeps_the_others(cluster, tmp_path):
    path = write(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 255, (1, 3400, 200), "uint8"), tiled=True,
                 blockxsize=512, blockysize=512, compress="deflate")
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = bytes(5000)
    Path(path).write_bytes(data)
    facts, notes = [], []
    with pytest.raises(RasterError, match=r"Strip \d of .*o.tif \(rows .*\) failed 3 times.*cannot be read at rows"):
        translate_raster(path, tmp_path / "o.tif", identity_package(1), compute=CPU, executor=cluster.make,
                         callbacks=Callbacks(message=notes.append, log=facts.append))
    assert [each["attempt"] for each in facts if each["event"] == "strip failed"] == [1, 2, 3]
    assert "finished strips are kept" in notes[-1] and not (tmp_path / "o.tif").exists()


def test_a_strip_that_kills_its_workers_ends_the_run_after_three_of_them(cluster, scene, tmp_path):
    """A local class travels to the workers by value."""

    @dataclass(frozen=True)
    class Deadly:
        inner: object
        needs, strips, work = None, None, 1

        @property
        def outputs(self):
            return self.inner.outputs

        @property
        def fingerprint(self):
            return self.inner.fingerprint

        def split(self, folder):
            return self,

        def rows(self, part, done):
            import os
            import signal

            if part[0] <= 1500 < part[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.inner.rows(part, done)

        def smaller(self):
            raise NotImplementedError

        def conclude(self, valid, undefined):
            return None

    from geoi2i.core.pipeline.planning import plan_translation
    from geoi2i.core.pipeline.translation import Translation

    source, model = str(scene / "scene.tif"), identity_package(3)
    job = Deadly(Translation(plan_translation(source, model, Options(), CPU), tmp_path / "o.tif"))
    notes = []
    with pytest.raises(RasterError, match=r"Strip 2 .* failed 3 times.*worker was lost"):
        delivery.deliver(job, executor=cluster.make, callbacks=Callbacks(message=notes.append))
    assert "kept" in notes[-1]
    cluster.client.wait_for_workers(2, timeout=60)


def test_runs_are_cut_where_overviews_meet():
    """Of thirty strips, five are done; two workers get three runs each, cut at multiples of four."""
    found = [task.run for task in _tasks([range(3, 8), range(10, 30)], 2)]
    assert found == [range(3, 4), range(4, 8), range(10, 12), *(range(k, k + 4) for k in range(12, 28, 4)),
                     range(28, 30)]
    assert all(len(task.run) == 1 for task in _tasks([range(30)], 100))
    assert max(len(task.run) for task in _tasks([range(100_000)], 4)) == 64


def test_workers_of_one_machine_have_numbers():
    idle = Cluster(None)._take({"tcp://a:1": 4, "tcp://a:2": 4, "tcp://b:7": 2}, 9)
    assert idle == [("tcp://a:1", 4, 0), ("tcp://a:2", 4, 1), ("tcp://b:7", 2, 0)]


# --- from the command line ----------------------------------------------------------------------------


def command(scene, output, *more):
    """`geoi2i run` over a scene, with strips as low as they can be."""
    program = "from geoi2i.core.output import strips; strips._STRIP_BYTES = 1; from geoi2i.cli.main import main; main()"
    return [sys.executable, "-c", f"if __name__ == '__main__': {program}", "run", "-i", str(scene / "scene.tif"), "-m",
            str(scene / "model"), "-o", str(output), "--device", "cpu", *more]


def first_strip(folder, seconds=90):
    """Waits until a strip is done."""
    deadline = time.monotonic() + seconds
    while not list(folder.glob("*.geoi2i-parts/*/done-0-*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_client_takes_its_workers_with_it_and_the_next_goes_on(scene, alone, tmp_path):
    process = subprocess.Popen(command(scene, tmp_path / "o.tif", "--workers", "2"), stderr=subprocess.PIPE)
    first_strip(tmp_path)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert children and not psutil.wait_procs(children, timeout=20)[1]
    done = subprocess.run(command(scene, tmp_path / "o.tif"), capture_output=True, text=True)
    assert done.returncode == 0 and "were made before; resuming" in done.stderr, done.stderr
    assert (tmp_path / "o.tif").read_bytes() == alone and os.listdir(tmp_path) == ["o.tif"]


def test_a_killed_scheduler_costs_only_what_was_under_way(scene, alone, tmp_path):
    address = "tcp://127.0.0.1:18786"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "18786",
            "--no-dashboard"]
    scheduler = subprocess.Popen(dask, stderr=subprocess.DEVNULL)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
              "--no-nanny", "--death-timeout", "5", "--local-directory", str(tmp_path / "scratch")]
    workers = [subprocess.Popen(worker, stderr=subprocess.DEVNULL) for _ in range(2)]
    output = tmp_path / "out"
    output.mkdir()
    try:
        client = subprocess.Popen(command(scene, output / "o.tif", "--scheduler", address), stderr=subprocess.PIPE,
                                  text=True)
        first_strip(output)
        scheduler.kill()
        _, said = client.communicate(timeout=120)
        assert client.returncode == 2 and "is gone; finished strips are kept" in said and "Traceback" not in said, said
    finally:
        for process in (scheduler, *workers):
            process.kill()
    done = subprocess.run(command(scene, output / "o.tif"), capture_output=True, text=True)
    assert done.returncode == 0 and "were made before; resuming" in done.stderr, done.stderr
    assert (output / "o.tif").read_bytes() == alone and os.listdir(output) == ["o.tif"]


def test_waiting_for_what_a_lost_scheduler_cancelled_raises_nothing_of_its_own(cluster):
    future = cluster.client.submit(time.sleep, 1, pure=False)
    future.cancel()
    cluster._wait({future: None})
    assert future.cancelled() and cluster.size == 2


def test_a_scheduler_that_is_not_there_is_a_sentence(scene, tmp_path, monkeypatch):
    from geoi2i.core.output import dask_cluster as cluster

    monkeypatch.setattr(cluster, "_PATIENCE_S", 1.0)
    with pytest.raises(RasterError, match=r"Dask scheduler at tcp://127.0.0.1:9 cannot be reached"):
        with cluster.existing_cluster("tcp://127.0.0.1:9"):
            pass
