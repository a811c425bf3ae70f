"""Laws of opening: each file of a command is inspected and opened once, and what changes is inspected anew."""

import os
import pickle
import threading

import numpy as np
import pytest
from geoi2i.core.errors import RasterError
from geoi2i.core.raster import opening
from geoi2i.core.raster.sharing import _shared, sharing
from geoi2i.core.raster.source import RasterSource


@pytest.fixture
def counted(monkeypatch):
    """Names of the files that are inspected and opened from now on."""
    seen = {"inspected": [], "opened": []}
    inspect, open_raster = opening.inspect, opening.open_raster
    monkeypatch.setattr(opening, "inspect", lambda path, limits: (seen["inspected"].append(path.rpartition("/")[2]),
                                                                  inspect(path, limits))[1])
    monkeypatch.setattr(opening, "open_raster", lambda path, *more: (seen["opened"].append(path.rpartition("/")[2]),
                                                                     open_raster(path, *more))[1])
    monkeypatch.setattr("geoi2i.core.reproject.warped_raster.worker_count", lambda device: 1)
    monkeypatch.setattr("geoi2i.core.evaluation.compare.worker_count", lambda device: 1)
    return seen


@pytest.fixture
def scene(make_raster):
    return make_raster(np.random.default_rng(0).integers(1, 250, (3, 300, 200), "uint8"), name="scene.tif",
                       names=("red", "green", "blue"), mask=np.full((300, 200), 255, "uint8"))


TINY = [part for text in ("data.window_px=16", "data.batch=1", "budget.steps=1", "network.sizes.width=4",
                          "network.sizes.blocks=1") for part in ("--set", text)]
COMMANDS = {
    "run": ["run", "-i", "scene.tif", "-m", "identity", "-o", "o.tif", "--preview", "p.png"],
    "run with a model": ["run", "-i", "scene.tif", "-m", "landsat8-sentinel2", "-o", "o.tif", "--match-model-grid"],
    "reproject": ["reproject", "-i", "scene.tif", "--crs", "EPSG:32632", "-o", "o.tif"],
    "evaluate": ["evaluate", "-p", "scene.tif", "-r", "other.tif", "--seams", "--json", "e.json"],
    "train": ["train", "pix2pix", "--source", "scene.tif", "--target", "other.tif", "-o", "run", *TINY]}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_inspects_and_opens_each_file_once(scene, make_raster, tmp_path, monkeypatch, counted, command):
    from geoi2i.cli.main import main

    make_raster(np.random.default_rng(1).integers(1, 250, (3, 300, 200), "uint8"), name="other.tif",
                names=("red", "green", "blue"))
    monkeypatch.chdir(tmp_path)
    device = [] if command == "evaluate" else ["--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*COMMANDS[command], *device])
    assert not end.value.code
    named = [word for word in COMMANDS[command] if word in ("scene.tif", "other.tif")]
    for seen in counted.values():
        assert sorted(name for name in seen if name in named) == sorted(named), counted


def test_threads_that_read_at_a_time_have_a_dataset_each_and_leave_them_for_the_next(scene, counted):
    raster, gate = RasterSource.open(scene), threading.Barrier(2)

    def read():
        with raster.handles.borrow() as data:
            gate.wait(10)
            assert data.count == 3

    for _ in range(3):
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counted["opened"] == ["scene.tif"] * 2 and counted["inspected"] == ["scene.tif"]


def test_a_file_that_changed_is_inspected_again(scene, counted):
    raster = RasterSource.open(scene)
    os.utime(scene, ns=(1, 1))
    raster.decimated()
    assert counted["inspected"] == ["scene.tif"] * 2 == counted["opened"]
    with open(scene, "w") as file:
        file.write("<VRTDataset/>")
    with pytest.raises(RasterError):
        raster.decimated()


def test_outside_of_a_command_nothing_is_kept(scene, counted):
    for _ in range(2):
        RasterSource.open(scene)
    assert counted["opened"] == ["scene.tif"] * 2
    with sharing(), sharing():
        RasterSource.open(scene)
    assert len(counted["opened"]) == 3 and not _shared


def test_a_raster_travels_to_another_process_as_its_path(scene, counted):
    raster = RasterSource.open(scene, (3, 1))
    again = pickle.loads(pickle.dumps(raster))
    assert again == raster and np.array_equal(again.decimated().pixels, raster.decimated().pixels)
    assert counted["inspected"] == ["scene.tif"] * 2
