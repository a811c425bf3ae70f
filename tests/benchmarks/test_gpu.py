"""The page of a GPU is made whole at toy sizes; a part that fails, hangs or comes too late costs that part alone."""

import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gpu


def test_the_dry_run_goes_through_every_part(tmp_path):
    run = subprocess.run([sys.executable, gpu.__file__, "--dry", "--out", str(tmp_path)],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    records = json.loads((tmp_path / "gpu.json").read_text())
    printed = [json.loads(line) for line in run.stdout.splitlines()]
    assert printed == records
    assert [r for r in records if r.get("table") == "failed"] == []
    assert [r["part"] for r in records if "seconds_used" in r] == [*gpu.PARTS, "end"]
    assert {r["table"] for r in records if "table" in r} >= {
        "models", "networks", "warp", "metrics", "bounds", "runs", "overlap", "training", "memory", "sharing", "goals"}
    # What holds at any size: the fallback is taken, and two processes make what one makes.
    fallback, = (r for r in records if r.get("fell_back") is not None)
    assert fallback["fell_back"] >= 1 and fallback["max_error_dn"] <= 1
    assert all(r["max_error_dn"] <= 1e-4 * 255 for r in records if r.get("arithmetic") == "fp32")
    page = (tmp_path / "gpu.md").read_text()
    assert "No GPU figure was taken" in page and "not judged" in page


@pytest.fixture
def report(tmp_path, monkeypatch):
    """`report(run)`: a page of one part."""

    def make(run):
        part = ModuleType("_gpu.planted")
        part.run = run
        monkeypatch.setitem(sys.modules, "_gpu.planted", part)
        return gpu.Report(Namespace(dry=True, out=tmp_path), time.monotonic())

    return make


def test_a_part_that_fails_says_so_after_what_it_found(report, tmp_path):
    def run(job):
        job.tell(table="runs", seconds=float("nan"))
        raise ValueError("planted")

    made = report(run)
    made.part("planted", tmp_path, time.monotonic() + 60, time.monotonic() + 60)
    found, failed, ended = made.records
    assert found["seconds"] == "nan" and "ValueError: planted" in failed["why"] and ended["seconds_used"] < 60
    assert "ValueError: planted" in (tmp_path / "gpu.md").read_text()


def test_a_part_that_hangs_is_stopped_with_what_it_started(report, tmp_path):
    def run(job):
        process = subprocess.Popen(["sleep", "600"])
        job.tell(pid=process.pid)
        process.wait()

    made = report(run)
    made.part("planted", tmp_path, time.monotonic() + 2, time.monotonic() + 60)
    found, stopped, _ = made.records
    assert stopped["table"] == "left out" and "stopped after" in stopped["why"]
    state = Path(f"/proc/{found['pid']}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_part_that_comes_too_late_is_left_out(report, tmp_path):
    made = report(lambda job: None)
    made.part("planted", tmp_path, time.monotonic() + 1, time.monotonic() + 1)
    assert [r["why"] for r in made.records] == ["the time is spent"]


def test_the_shares_of_the_parts_fit_into_eight_minutes():
    assert sum(gpu.PARTS.values()) + gpu.PAGE_S + 10 <= 8 * 60
