"""Whatever ends a run, and whenever: the same command goes on, and nothing tells its result from an undisturbed one.

GEOI2I_KILLS says how often each command is killed: 3 times in `make test`, 50 in `make durability`, which also kills
it before or after 150 of the calls that change the disk, where `make test` takes 4.
"""

import os
import random
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
import victims
from conftest import tiny_package, write

KILLS = int(os.environ.get("GEOI2I_KILLS", 3))
THOROUGH = KILLS > 3
SETS = ["data.window_px=16", "data.batch=1", "network.sizes={width=4, blocks=0, style=4, embedding=8}",
        "settings={steps=2, levels=2, critic_width=4, critic_levels=1, gate_width=4}", "budget.steps=8",
        "budget.checkpoint_every=2", "budget.preview_every=3"]
COMMANDS = {
    "run": ["run", "--device", "cpu", "-m", "../model", "-i", "../scene.tif", "-o", "out.tif", "--tile", "128",
            "--samples", "2", "--uncertainty", "std.tif"],
    "segments": ["run", "--device", "cpu", "-m", "../model", "-i", "../scene.tif", "-o", "out.tif", "--tile", "128",
             "--samples", "2", "--uncertainty", "std.tif"],
    "reproject": ["reproject", "--device", "cpu", "-i", "../scene.tif", "-o", "out.tif", "--crs", "EPSG:32632",
                  "--resolution", "20"],
    "batch": ["run", "--device", "cpu", "-m", "identity", "-i", "../scenes", "-o", "out/"],
    "train": ["train", "sp_i2i", "--source", "../small.tif", "--target", "../small.tif", "-o", "run", "--device", "cpu",
              "--resume", *[part for text in SETS for part in ("--set", text)]],
}
MEMORY = {"segments": 1000}
"""Bytes: every step of every pass goes over the raster for itself, where `run` goes once."""
LEFT = {"run": ["out.tif", "std.tif"], "segments": ["out.tif", "std.tif"], "reproject": ["out.tif"],
        "batch": ["out", "out/0.tif", "out/1.tif", "out/2.tif"],
        "train": ["run", "run/checkpoint.pt", "run/log.jsonl", "run/previews", "run/previews/step-0000000.png",
                  "run/previews/step-0000003.png", "run/previews/step-0000006.png",
                  "run/previews/step-0000008.png", "run/sp-i2i",
                  "run/sp-i2i/manifest.json", "run/sp-i2i/weights.safetensors"]}
TIMELESS = (".tif", ".safetensors", ".png")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """`stage(command)`: an empty folder beside the inputs, the end of an undisturbed run, and what it left."""
    root, count = tmp_path_factory.mktemp("stage"), iter(range(10**6))
    generator = np.random.default_rng(0)

    def scene(path, height, width=200):
        mask = np.where(generator.random((height, width)) < 0.02, 0, 255).astype("uint8")
        write(path, generator.integers(0, 255, (3, height, width), "uint8"), mask=mask)

    (root / "scenes").mkdir()
    scene(root / "scene.tif", 2900)
    scene(root / "small.tif", 64, 64)
    for k in range(3):
        scene(root / "scenes" / f"{k}.tif", 1100)
    tiny_package(root / "model", steps=2, minimum=0, maximum=255, dtype="uint8", tile_px=128)

    victims.run(["--version"], root)  # now the server has imported everything

    def fresh():
        folder = root / f"run-{next(count)}"
        folder.mkdir()
        return folder

    @cache
    def undisturbed(command):
        folder = fresh()
        end = run(command, folder)
        assert end.code == 0, end.text
        found = content(folder)
        assert sorted(found) == sorted(LEFT[command])
        return end, found

    return lambda command: (fresh(), *undisturbed(command))


def run(command, folder, **how):
    """One run of a command in a folder."""
    return victims.run(COMMANDS[command], folder, memory=MEMORY.get(command), **how)


def content(folder):
    """Every path under a folder, and the bytes of what does not tell the time."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.suffix in TIMELESS else None
            for path in folder.rglob("*") if "tensorboard" not in path.parts}


def goes_on(folder, command, expected, code=0):
    """Gives the same command once more; True where the kill came after the end."""
    end = run(command, folder)
    whole = content(folder)
    complete = end.code == 2 and ("exists already" in end.text or "holds a finished model" in end.text)
    assert end.code == code or complete, end.text
    assert whole == expected
    return complete


@pytest.mark.parametrize("repetition", range(KILLS))
@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_killed_goes_on(stage, command, repetition):
    folder, end, expected = stage(command)
    moment = random.Random(f"{command} {repetition}").uniform(0, end.seconds)
    killed = run(command, folder, send=(moment, signal.SIGKILL))
    assert killed.code in (-signal.SIGKILL, 0)
    goes_on(folder, command, expected)


@pytest.mark.parametrize("command, number", [
    ("run", signal.SIGINT), ("segments", signal.SIGTERM), ("reproject", signal.SIGTERM), ("batch", signal.SIGTERM),
    ("train", signal.SIGINT)])
def test_a_run_that_is_interrupted_says_so_and_goes_on(stage, command, number):
    for repetition in range(max(1, KILLS // 5)):
        folder, end, expected = stage(command)
        moment = random.Random(f"{command} {repetition}").uniform(0.1, 0.9) * end.seconds
        killed = run(command, folder, send=(moment, number))
        assert killed.code in (130, 0) and "Traceback" not in killed.text, killed.text
        goes_on(folder, command, expected)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_killed_at_any_change_of_the_disk_goes_on(stage, command):
    """One after the last change does nothing; one before a file got its name looks like one after the write before."""
    _, end, expected = stage(command)
    places = [(number, when) for number in range(end.calls) for when in ("before", "after")]
    for place in random.Random(command).sample(places, min(len(places), 150) if THOROUGH else 4):
        folder, *_ = stage(command)
        killed = run(command, folder, kill_at=place)
        assert killed.code == -signal.SIGKILL, (place, killed)
        goes_on(folder, command, expected)


@pytest.fixture
def small_disk():
    """`small_disk(folder, kilobytes)`: makes a folder a disk of its own, or changes its size; mounting needs root."""
    mounted = []

    def mount(folder, kilobytes):
        how = f"remount,size={kilobytes}k" if folder in mounted else f"size={kilobytes}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)], check=True)
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command", ["run", "segments", "reproject", "batch"])
def test_a_run_that_fills_the_disk_says_so_and_goes_on(stage, small_disk, command):
    count = 20 if THOROUGH else 2
    for k in range(count):
        folder, _, expected = stage(command)
        needed = sum(len(content) for content in expected.values() if content) // 1024
        small_disk(folder, int(needed * (0.3 + 1.5 * (k + 0.5) / count)))
        killed = run(command, folder)
        assert killed.code in (0, 2, 3), killed.text
        assert not killed.code or ("disk" in killed.text and "Traceback" not in killed.text), killed.text
        small_disk(folder, 4 * needed)
        goes_on(folder, command, expected)


def test_segments_leave_the_same_outputs(stage):
    (_, whole, outputs), (_, end, expected) = stage("run"), stage("segments")
    assert expected == outputs and end.calls > whole.calls


def test_what_was_done_before_is_not_done_again(stage):
    folder, end, expected = stage("run")
    run("run", folder, kill_at=(end.calls // 3, "before"))
    records = sorted((folder / "std.tif.geoi2i-parts").glob("*/done-0-*.json"))  # which is written second
    strips = [record.with_name(record.stem.replace("done", "strip") + ".tif") for record in records]
    assert 0 < len(strips) < 6
    before = [path.stat().st_mtime_ns for path in strips]
    second = run("run", folder, kill_at=(20, "before"))
    assert second.code == -signal.SIGKILL and [path.stat().st_mtime_ns for path in strips] == before
    third = run("run", folder)
    found = re.search(r"(\d) of 6 strips of out.tif were made before; resuming.", third.text)
    assert len(strips) <= int(found[1]) < 6
    assert content(folder) == expected
