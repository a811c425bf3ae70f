"""Laws of taking a run up again: what may go on, what is refused, and what is made again."""

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
import torch
from geoi2i.core.errors import RasterError
from geoi2i.core.models.package import identity_package
from geoi2i.core.output import strips
from geoi2i.core.output.completed import CompletedOutputs
from geoi2i.core.output.execute import deliver
from geoi2i.core.output.journal import Journal
from geoi2i.core.pipeline.translation import Translation
from geoi2i.core.run import Callbacks, Compute, Options, plan_translation, translate_raster


class Stop(Exception):
    """Ends a run from inside."""


@pytest.fixture(autouse=True)
def low_strips(monkeypatch):
    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)


@pytest.fixture
def tall(make_raster):
    """A raster of five strips."""
    return make_raster(np.random.default_rng(0).integers(0, 255, (1, 2400, 60), "uint8"), name="tall.tif", tiled=True,
                       blockxsize=256, blockysize=256)


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "o.tif"


def translate(source, output, callbacks=None, model=None, resume=True, completed=None, overwrite=False, batch=1,
              **options):
    return translate_raster(source, output, model or identity_package(1), Options(**options),
                            compute=Compute(device="cpu", batch=batch), overwrite=overwrite, resume=resume,
                            completed=completed, callbacks=callbacks or Callbacks())


def stopped(source, output, rows=1500, **more):
    """A run that ends when it comes to a row; its notices."""
    told = []

    def progress(done, total):
        if done >= rows:
            raise Stop

    with pytest.raises(Stop):
        translate(source, output, Callbacks(progress, told.append), **more)
    return told


def kept(output):
    return sorted(path.name for path in output.parent.glob("*.geoi2i-parts/*/done-0-*.json"))


def test_a_run_that_fails_keeps_its_strips_and_says_so(tall, output):
    told = stopped(tall, output)
    count = len(kept(output))
    assert count >= 1 and not output.exists()
    assert told[-1].startswith(f"{count} finished strip") and "--no-resume discards" in told[-1]


def test_without_resume_nothing_is_kept_and_nothing_is_used(tall, output):
    stopped(tall, output, resume=False)
    assert os.listdir(output.parent) == []
    stopped(tall, output)
    seen = []
    translate(tall, output, Callbacks(lambda done, total: seen.append(done)), resume=False)
    assert seen[0] == 0 and os.listdir(output.parent) == ["o.tif"]


@pytest.mark.parametrize("change, words", [
    ({"seed": 5}, "seed was 0 and is 5"), ({"tile": 64}, "tile was 512 and is 64"),
    ({"samples": 3}, "samples was 1 and is 3"), ({"batch": 2}, "batch was 1 and is 2")])
def test_another_option_is_refused_with_what_changed(tall, output, change, words):
    stopped(tall, output)
    before = kept(output)
    with pytest.raises(RasterError, match=f"(?s)holds part of a run that differs:.*  {words}\n.*--no-resume"):
        translate(tall, output, **change)
    assert kept(output) == before
    translate(tall, output)
    assert os.listdir(output.parent) == ["o.tif"]


def test_another_model_or_input_is_refused_with_what_changed(tall, output, make_package, make_raster):
    stopped(tall, output)
    with pytest.raises(RasterError, match=r"model was identity 1 and is tiny 1"):
        translate(tall, output, model=make_package("m", bands=1, minimum=0.0, maximum=255.0))
    os.utime(tall, ns=(1, 1))
    with pytest.raises(RasterError, match=r"differs:\s+tall.tif was \[\d+, \d+\] and is \[\d+, 1\]"):
        translate(tall, output)
    assert kept(output)


def test_two_runs_cannot_make_one_output(tall, output):
    refused = []

    def second(done, total):
        if not refused:
            refused.append(True)
            with pytest.raises(RasterError, match=r"is being written by another run: wait for it"):
                translate(tall, output)

    translate(tall, output, Callbacks(second))
    assert refused and os.listdir(output.parent) == ["o.tif"]


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "altered", "removed", "record cut"])
def test_a_strip_that_was_harmed_is_made_again(tall, output, harm):
    translate(tall, output)
    expected = output.read_bytes()
    output.unlink()
    stopped(tall, output, rows=2300)
    assert len(kept(output)) >= 2
    folder = next(output.parent.glob("*.geoi2i-parts/*/"))
    strip, record = folder / "strip-0-00000001.tif", folder / "done-0-00000001.json"
    content = strip.read_bytes()
    if harm == "cut":
        strip.write_bytes(content[: len(content) // 2])
    elif harm == "altered":
        strip.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    elif harm == "removed":
        strip.unlink()
    else:
        record.write_text(record.read_text()[:9])
    (folder / ".0123456789abcdef.geoi2i-tmp").write_text("half")
    translate(tall, output)
    assert output.read_bytes() == expected and os.listdir(output.parent) == ["o.tif"]


def test_an_output_that_stands_there_is_not_overwritten_by_what_goes_on(tall, output):
    stopped(tall, output)
    output.write_text("mine")
    with pytest.raises(RasterError, match=r"exists already: give --overwrite"):
        translate(tall, output)
    assert output.read_text() == "mine" and kept(output)
    translate(tall, output, overwrite=True)
    assert output.read_bytes()[:2] == b"II"


@pytest.mark.parametrize("number", range(3))
def test_a_sidecar_is_there_after_a_fall_between_the_two(make_raster, output, monkeypatch, number):
    """The system of another planet stands in a file beside the output."""
    source = make_raster("jupiter_graphic")
    expected = translate(source, output, model=identity_package(3))
    beside = output.with_name("o.tif.aux.xml")
    wanted = expected.read_bytes(), beside.read_bytes()
    beside.unlink()
    output.unlink()
    replace, count = os.replace, iter(range(-number, 100))

    def falls(one, two, *, src_dir_fd, dst_dir_fd):
        if src_dir_fd != dst_dir_fd and next(count) == 0:  # from the folder of parts to that of the output
            raise Stop
        replace(one, two, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", falls)
    if number < 2:
        with pytest.raises(Stop):
            translate(source, output, model=identity_package(3))
    monkeypatch.undo()
    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)
    if number < 2:
        translate(source, output, model=identity_package(3))
        assert (output.read_bytes(), beside.read_bytes()) == wanted
        assert sorted(os.listdir(output.parent)) == ["o.tif", "o.tif.aux.xml"]


def test_a_batch_does_not_make_again_what_it_finished(tall, output):
    completed, seen = CompletedOutputs(output.parent / "memory.jsonl"), []
    translate(tall, output, completed=completed)
    stamp = output.stat().st_mtime_ns
    with open(completed.path, "a") as file:
        file.write('{"output": "cut o')
    again = CompletedOutputs(completed.path)
    translate(tall, output, Callbacks(message=seen.append), completed=again)
    assert seen == [f"{output} was finished before."] and output.stat().st_mtime_ns == stamp
    with pytest.raises(RasterError, match="exists already"):
        translate(tall, output, completed=again, seed=3)
    output.write_text("mine")
    with pytest.raises(RasterError, match="exists already"):
        translate(tall, output, completed=again)
    again.forget()
    assert os.listdir(output.parent) == ["o.tif"]


@pytest.mark.slow
def test_overviews_made_from_files_are_those_made_in_the_stream(make_raster, output):
    """Whatever order the strips come in, and whatever is missing of the levels below."""
    source = make_raster(np.random.default_rng(0).integers(0, 65535, (2, 4000, 700), "uint16"), name="o.tif",
                         mask=(np.random.default_rng(1).random((4000, 700)) > 0.3).astype("uint8") * 255)
    expected = translate(source, output, model=identity_package(2)).read_bytes()

    def one_by_one(job, outputs, runs, callbacks):
        from geoi2i.core.output.execute import make_strips

        for index in reversed([k for run in runs for k in run]):
            make_strips(job, outputs, range(index, index + 1), callbacks)

    plan = plan_translation(source, identity_package(2), Options(), Compute(device="cpu"))
    deliver(Translation(plan, output), overwrite=True, executor=one_by_one)
    assert output.read_bytes() == expected


@pytest.mark.slow
def test_running_out_of_memory_half_way_keeps_the_strips_that_are_done(make_raster, make_package, output, monkeypatch):
    from geoi2i.core.networks.resnet import ResnetGenerator

    source = make_raster(np.random.default_rng(0).normal(0, 1, (3, 1700, 40)).astype("float32"))
    package = make_package(steps=1, tile_px=64)
    expected = translate(source, output.with_name("e.tif"), model=package, batch=4)
    forward, calls, told, made = ResnetGenerator.forward, [0], [], []

    def within(self, image, time, style):
        calls[0] += 1
        if calls[0] > 6 and image.shape[0] > 2:
            raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")
        return forward(self, image, time, style)

    monkeypatch.setattr(ResnetGenerator, "forward", within)
    found = translate(source, output, Callbacks(message=told.append, log=made.append), model=package, batch=4)
    assert [note for note in told if "ran out" in note] == [
        "The device ran out of memory; continuing with batch 2 and tile 64."]
    numbers = [each["strip"] for each in made if each["event"] == "strip"]
    assert numbers == sorted(set(numbers))
    assert {"event": "out of memory", "continuing with": "batch 2 and tile 64"} in made
    with rasterio.open(found) as one, rasterio.open(expected) as two:
        np.testing.assert_allclose(one.read(), two.read(), atol=1e-4)


def test_every_strip_has_its_line_in_the_record(tall, output):
    stopped(tall, output)
    before, made = len(kept(output)), []
    translate(tall, output, Callbacks(log=made.append))
    begin, *middle, assembled, done = made
    assert (begin["event"], begin["strips"], begin["made before"]) == ("begin", 5, before)
    assert begin["fingerprint"]["model"] == "identity 1" and json.dumps(begin)
    assert [each["strip"] for each in middle] == list(range(before, 5)) and middle[-1]["rows"] == 2400 - 4 * 512
    assert all(each["valid"] == each["rows"] * 60 and each["seconds"] >= 0 for each in middle)
    assert assembled["event"] == "assembled" and done == {"event": "done", "output": str(output)}


def test_a_journal_that_cannot_be_read_is_refused(tall, output):
    stopped(tall, output)
    next(output.parent.glob("*.geoi2i-parts/*/journal.json")).write_text("{")
    with pytest.raises(RasterError, match="its journal cannot be read"):
        translate(tall, output, seed=1)
    translate(tall, output, seed=1, resume=False)


def test_a_lock_outlives_the_removal_of_its_folder(tmp_path):
    """Who waits in the door finds the folder gone, and takes a new one."""
    path = tmp_path / "o.tif"
    with Journal(path, {"a": 1}, True) as first:
        shutil.rmtree(first.parts)
        with Journal(path, {"a": 1}, True) as second:
            assert second.folder.is_there()
    assert not first.parts.exists()
