"""Laws of what a long run tells: the end it foresees, and a log with a line for every strip."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.cli import events


class Told(events.Reporter):
    """Keeps what would be shown."""

    interval = 0.0

    def __init__(self):
        super().__init__()
        self.shown_left = []

    def show(self, done, total, text, unit, rate, left):
        self.shown_left.append((done, rate, left))


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("before", [0, 700])
def test_steady_work_ends_when_it_was_foreseen(clock, before):
    """Ten rows a second, also where an earlier run has made most of them."""
    reporter = Told()
    for done in range(before, 1000, 10):
        reporter.progress(done, 1000, "x")
        clock[0] += 1
    for done, rate, left in reporter.shown_left[1:]:
        assert rate == pytest.approx(10) and left == pytest.approx((1000 - done) / 10)
    assert reporter.shown_left[0][1:] == (None, None)


def foreseen(clock, reports, total):
    """At each report of (time, done), from a tenth of the way on: the end that was foreseen."""
    reporter, begun, found = Told(), clock[0], []
    for now, done in reports:
        clock[0] = begun + now
        reporter.progress(done, total, "x")
        if total / 10 <= done < total:
            found.append(now + reporter.shown_left[-1][2])
    return found


def test_strips_of_two_workers_that_start_slowly(clock):
    """Each takes twice as long for the first strip of a run of ten, and both report at once: within a fifth."""
    reports, now = [(0.0, 0)], 0.0
    for strip in range(30):
        now += 2.0 if strip % 10 == 0 else 1.0
        reports += [(now, 2 * strip + 1), (now, 2 * strip + 2)]
    found = foreseen(clock, reports, 60)
    assert len(found) > 50 and all(abs(end / now - 1) < 0.2 for end in found)


def test_a_slower_second_half_is_noticed(clock):
    """Rows of the second half take three times as long."""
    reports = [(k if k < 500 else 500 + 3 * (k - 500), k) for k in range(1001)]
    found = foreseen(clock, reports, 1000)
    assert found[300] < 1100 and found[-200] == pytest.approx(2000, rel=0.1)


def test_a_second_raster_starts_anew(clock):
    reporter = Told()
    for length, pace in ((100, 1.0), (50, 0.1)):
        reporter.restart()
        reporter.progress(0, length, "x")
        clock[0] += pace * 10
        reporter.progress(10, length, "x")
        assert reporter.shown_left[-1][2] == pytest.approx((length - 10) * pace)


def test_plain_lines_say_rate_time_left_and_time_of_day(clock, capsys):
    reporter = events.Reporter()
    reporter.interval = 0
    reporter.progress(0, 7200, "translating a.tif")
    clock[0] += 60
    reporter.progress(600, 7200, "translating a.tif")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "translating a.tif: 0 of 7200 rows, 0 %"
    assert second.startswith("translating a.tif: 600 of 7200 rows, 8 %, 10 rows/s, 11:00 left, done at ")


def process(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "geoi2i", *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, timeout=180)


def scene(path, height):
    with rasterio.open(path, "w", driver="GTiff", height=height, width=40, count=1, dtype="uint8", crs="EPSG:32633",
                       transform=Affine(30, 0, 500000, 0, -30, 4000000)) as out:
        out.write(np.random.default_rng(0).integers(1, 250, (1, height, 40), "uint8"))


@pytest.mark.slow
def test_a_batch_on_two_processes_logs_every_strip_and_leaves_its_outputs(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        scene(tmp_path / "in" / f"{name}.tif", 600)
    (tmp_path / "in" / "damaged.tif").write_text("no raster")
    first = process("run", "-i", "in", "-o", "out", "-m", "identity", "--device", "cpu", "--workers", "2", "--log",
                   "log.jsonl", cwd=tmp_path)
    assert first.returncode == 3 and "1 of 4 rasters failed" in first.stderr, first.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".geoi2i-batch.jsonl", "a.tif", "b.tif", "c.tif"]
    facts = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    strips = [each for each in facts if each["event"] == "strip"]
    assert sorted(each["output"][-5:] for each in strips) == ["a.tif", "b.tif", "c.tif"]
    assert all(each["worker"].startswith("tls://") and each["time"] and each["rows"] == 600 for each in strips)
    scene(tmp_path / "in" / "damaged.tif", 600)
    second = process("run", "-i", "in", "-o", "out", "-m", "identity", "--device", "cpu", cwd=tmp_path)
    assert second.returncode == 0 and second.stderr.count("was finished before") == 3, second.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.tif", "b.tif", "c.tif", "damaged.tif"]
    for path in (tmp_path / "in").iterdir():
        with rasterio.open(path) as one, rasterio.open(tmp_path / "out" / path.name) as two:
            assert np.array_equal(one.read(), two.read())


def test_a_name_takes_one_line_whatever_it_holds(geoi2i, tmp_path):
    (tmp_path / "in").mkdir()
    scene(tmp_path / "in" / "a.tif", 30)
    (tmp_path / "in" / "d\te\nf.tif").write_text("no raster")
    done = geoi2i("run", "-i", "in", "-o", "out", "-m", "identity", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 3 and "\t" not in done.stderr
    assert sum("in/d e f.tif" in line for line in done.stderr.splitlines()) == 3  # its turn, the table, the end
    assert done.stderr.splitlines()[-1] == "Error: 1 of 2 rasters failed: in/d e f.tif; see the reason above."


def test_wishes_that_cannot_be_met_are_refused_in_a_sentence(geoi2i, tmp_path):
    scene(tmp_path / "a.tif", 30)
    cases = [(["-i", "a.tif", "--workers", "2", "--scheduler", "tcp://a:1"], "give one of them"),
             (["-i", "a.tif", "--log", "no/such/log"], "no/such/log cannot be written"),
             (["-i", "a.tif", "--max-pixels", "100"], "--max-pixels 1200"),
             (["-i", "https://127.0.0.1:9/a.tif", "-m", "identity", "-i", "a.tif"], "a.tif")]
    for arguments, words in cases:
        done = geoi2i("run", "-m", "identity", *arguments, cwd=tmp_path)
        assert done.returncode in (2, 3) and words in done.stderr and "Traceback" not in done.stderr, done.stderr
