"""Laws of segments: they cover a chain once, keep within memory and context, and change no bit of a result."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from geoi2i.core.files import Folder
from geoi2i.core.inference.steps import Step, StepTable, schrodinger_bridge_table
from geoi2i.core.output import strips
from geoi2i.core.pipeline import estimates
from geoi2i.core.pipeline.segments import Moments, Segment, cut
from geoi2i.core.pipeline.translation import Translation
from geoi2i.core.run import Callbacks, Compute, Options, plan_translation, translate_raster
from hypothesis import given
from hypothesis import strategies as st

GB = 1 << 30
CPU = Compute(device="cpu")


class Stop(Exception):
    """Ends a run from inside."""


@pytest.mark.slow
@given(st.integers(1, 1000), st.integers(1, 40), st.integers(1, 10**6), st.integers(0, 1300), st.integers(0, 4 * GB),
       st.none() | st.integers(1, 64 * GB))
def test_segments_go_every_step_of_every_pass_once_and_in_order(steps, passes, height, step_rows, step_bytes, memory):
    segments = cut(steps, passes, height, step_rows, step_bytes, memory)
    gone = [(k, s) for segment in segments for k in segment.passes for s in segment.steps]
    assert sorted(gone) == [(k, s) for k in range(passes) for s in range(steps)]
    for one, two in zip(segments, segments[1:]):  # what one leaves is what the next takes up
        assert (two.passes, two.steps.start) == (one.passes, one.steps.stop) or (
            one.steps.stop == steps and two.steps.start == 0 and two.passes.start == one.passes.stop)
    assert all(len(segment.passes) == 1 or segment.steps == range(steps) for segment in segments)
    for segment in segments:
        assert segment.work == 1 or memory is None or segment.work * step_bytes <= memory / 4
        assert height <= 4096 or len(segment.steps) == 1 or len(segment.steps) * step_rows <= 4096


@pytest.mark.parametrize("steps, passes, height, memory, expected", [
    (5, 1, 100_000, 24 * GB, 1),  # five steps of 400 rows and 0.1 GB
    (5, 500, 640, 24 * GB, 63),  # 4 GB hold forty of them, eight chains
    (50, 1, 100_000, 24 * GB, 5),  # ten steps reach over 4000 rows
    (50, 1, 3000, 24 * GB, 2), (50, 3, 3000, 24 * GB, 6)])
def test_how_many_legs_there_are(steps, passes, height, memory, expected):
    segments = cut(steps, passes, height, 400, GB // 10, memory)
    assert len(segments) == expected
    lengths = {len(segment.steps) for segment in segments}
    assert max(lengths) - min(lengths) <= 1


def test_a_little_more_or_less_memory_changes_no_legs():
    assert cut(50, 3, 3000, 400, GB // 10, 23 * GB) == cut(50, 3, 3000, 400, GB // 10, 17 * GB)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40))
def test_moments_are_mean_and_spread_of_numpy(values):
    first, *more = (torch.tensor(v).reshape(1, 1, 1) for v in values)
    moments = Moments.first(first, std=True)
    for value in more:
        moments = moments.add(value)
    exact, scale = np.array(values, "float64"), max(map(abs, values)) + 1e-6
    assert moments.count == len(values)
    assert abs(moments.mean.item() - exact.mean()) <= 1e-5 * scale
    assert abs(moments.squares.item() / (len(values) - 1) - exact.var(ddof=1)) <= 1e-5 * scale**2


# --- the same bits ------------------------------------------------------------------------------------


REMEMBERING = StepTable(source_gain=0.7, noise_std=0.2, steps=(
    Step(time=0, keep=0.4, pull=0.5, source=0.1, noise=0.05), Step(time=1, keep=0.3, pull=0.9, memory=-0.2, noise=0.05),
    Step(time=2, c_source=0.1, c_skip=0.2, keep=0.2, pull=0.8, memory=0.1), Step(time=3)))
"""A chain whose steps see the source and look back."""
CUTS = {
    "passes": [((0, 4), (0, 2)), ((0, 4), (2, 3))],
    "steps": [((a, b), (k, k + 1)) for k in range(3) for a, b in ((0, 1), (1, 4))],
    "every step": [((a, a + 1), (k, k + 1)) for k in range(3) for a in range(4)],
}


@pytest.fixture
def scene(make_raster, monkeypatch):
    """A raster of three strips with holes."""
    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)
    pixels = np.random.default_rng(0).normal(0.5, 2, (3, 1400, 70)).astype("float32")
    pixels[:, 480:530, 20:60] = np.nan
    return make_raster(pixels, tiled=True, blockxsize=64, blockysize=64)


@pytest.fixture(params=["bridge", "remembering"])
def model(request, make_package):
    return make_package(table=schrodinger_bridge_table(4, tau=0.1) if request.param == "bridge" else REMEMBERING)


def segments(monkeypatch, kind):
    found = tuple(Segment(range(*steps), range(*passes)) for steps, passes in CUTS[kind])
    monkeypatch.setattr(estimates, "cut", lambda *_: found)
    return found


def translate(scene, model, folder, callbacks=None, **more):
    """The bytes of the mean and of the standard deviation."""
    folder.mkdir(exist_ok=True)
    translate_raster(scene, folder / "o.tif", model, Options(samples=3, tile=128), compute=Compute(device="cpu"),
                     uncertainty=folder / "std.tif", callbacks=callbacks or Callbacks(), **more)
    assert sorted(os.listdir(folder)) == ["o.tif", "std.tif"]
    return (folder / "o.tif").read_bytes(), (folder / "std.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CUTS)
def test_segments_change_no_bit(scene, model, monkeypatch, tmp_path, kind):
    extent = {"bounds": (500_300, 4_500_000 - 30 * 1200, 501_500, 4_500_000 - 30 * 200)}
    expected = translate(scene, model, tmp_path / "whole"), translate(scene, model, tmp_path / "part", **extent)
    segments(monkeypatch, kind)
    seen, told = [], []
    found = translate(scene, model, tmp_path / "segments",
                      Callbacks(lambda done, total: seen.append((done, total)), log=told.append))
    assert (found, translate(scene, model, tmp_path / "segments-part", **extent)) == expected
    assert seen[-1] == (1400, 1400) and seen == sorted(seen)
    made = [each["segment"] for each in told if each["event"] == "strip" and "segment" in each]
    assert len(set(made)) == len(CUTS[kind]) - 1


def test_rows_of_a_leg_made_alone_have_the_bits_of_the_whole(scene, make_package, monkeypatch, tmp_path):
    segments(monkeypatch, "steps")
    options = Options(samples=3, tile=128)
    model = make_package(table=REMEMBERING)
    (tmp_path / "parts").mkdir()
    parts = Folder.open(tmp_path / "parts")
    job = Translation(plan_translation(scene, model, options, CPU), tmp_path / "o.tif")
    first = job.split(parts)[0]
    whole = np.concatenate([rows.pixels for rows, in first.rows((0, 1400), lambda _: None)], 1)
    part = np.concatenate([rows.pixels for rows, in first.rows((700, 900), lambda _: None)], 1)
    assert whole.shape == (6, 1400, 70) and np.array_equal(whole[:, 700:900], part)  # the state and the last x_hat


# --- resuming -----------------------------------------------------------------------------------------


def interrupted(scene, model, folder, rows):
    def progress(done, total):
        if done >= rows:
            raise Stop

    with pytest.raises(Stop):
        translate(scene, model, folder, Callbacks(progress))


def folders(folder):
    """What segments have left, and how many strips of it."""
    left = (path for path in folder.glob("o.tif.geoi2i-parts/*/*") if path.is_dir())
    return {path.name: len(list(path.glob("done-*"))) for path in left}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [150, 420, 700, 1000, 1390])
def test_a_run_goes_on_in_the_leg_where_it_was_stopped(scene, make_package, monkeypatch, tmp_path, rows):
    model = make_package(table=REMEMBERING)
    expected = translate(scene, model, tmp_path / "whole")
    names = [segment.name for segment in segments(monkeypatch, "steps")]
    interrupted(scene, model, tmp_path / "segments", rows)
    before = folders(tmp_path / "segments")
    whole = [name for name in names if before.get(name) == 3]
    told = []
    found = translate(scene, model, tmp_path / "segments", Callbacks(log=told.append))
    assert found == expected
    again = {each.get("segment") for each in told if each["event"] == "strip"}
    assert not again & set(whole) and not again & set(names[: names.index(whole[-1])] if whole else ())
    assert len(before) <= 6 and sum(count == 3 for count in before.values()) <= 2  # the disk holds two at most


@pytest.mark.slow
def test_what_a_leg_has_left_is_made_again_where_it_is_harmed(scene, make_package, monkeypatch, tmp_path):
    model = make_package(table=REMEMBERING)
    expected = translate(scene, model, tmp_path / "whole")
    segments(monkeypatch, "steps")
    interrupted(scene, model, tmp_path / "segments", 1390)
    harmed = next(path for path in tmp_path.glob("segments/o.tif.geoi2i-parts/*/*/strip-0-00000001.tif"))
    content = harmed.read_bytes()
    harmed.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    assert translate(scene, model, tmp_path / "segments") == expected


@pytest.mark.slow
def test_segments_that_are_cut_otherwise_are_not_mixed(scene, make_package, monkeypatch, tmp_path):
    model = make_package(table=REMEMBERING)
    expected = translate(scene, model, tmp_path / "whole")
    segments(monkeypatch, "steps")
    interrupted(scene, model, tmp_path / "segments", 700)
    segments(monkeypatch, "every step")
    assert translate(scene, model, tmp_path / "segments") == expected


def test_passes_that_would_not_fit_into_memory_go_in_legs(scene, model, monkeypatch, tmp_path):
    """Of 48 MB 8 are for rows: those of some chains of four steps, each with about half a MB."""
    monkeypatch.setattr(estimates, "available_memory", lambda: 48 << 20)
    options = Options(samples=40, tile=128)
    job = Translation(plan_translation(scene, model, options, CPU), tmp_path / "o.tif")
    assert 10 < len(job.segments) < 40 and all(segment.steps == range(4) for segment in job.segments)
    single = Translation(replace(job.plan, options=Options(samples=1, tile=128)), tmp_path / "o.tif")
    assert job.needs.rows < 4 * single.needs.rows
    assert job.needs.disk > single.needs.disk + 2 * 1400 * 70 * 3 * 4 - 1
    assert json.dumps(job.fingerprint) == json.dumps(Translation(job.plan, tmp_path / "o.tif").fingerprint)
