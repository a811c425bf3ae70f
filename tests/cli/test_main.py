"""The command line as a user meets it: exit codes, sentences, events, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine


def process(*arguments, cwd=None, **more):
    """Runs the command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "geoi2i", *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, timeout=120, **more)


def scene(path, height=40, width=50, count=3, dtype="uint8", crs="EPSG:32633", **options):
    rng = np.random.default_rng(1)
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=count, dtype=dtype, crs=crs,
                       transform=Affine(30, 0, 500000, 0, -30, 4000000), **options) as out:
        out.write(rng.integers(1, 250, (count, height, width)).astype(dtype))
    return path


@pytest.fixture
def tif(tmp_path):
    return scene(tmp_path / "scene.tif")


@pytest.mark.slow
def test_help_is_instant_and_complete():
    started = time.perf_counter()
    shown = process("--help")
    assert shown.returncode == 0 and time.perf_counter() - started < 1.0  # 0.1 s on a quiet machine
    for verb in ("run", "reproject", "train", "models", "doctor"):
        assert verb in shown.stdout
        detail = process(verb, "--help")
        assert detail.returncode == 0 and "geoi2i" in detail.stdout


@pytest.mark.slow
def test_without_output_the_result_stands_beside_the_input(tif):
    assert process("run", "-i", tif, "-m", "identity").returncode == 0
    with rasterio.open(tif) as a, rasterio.open(tif.parent / "scene_identity.tif") as b:
        assert (a.read() == b.read()).all() and a.crs == b.crs and a.transform == b.transform


def test_a_preview_and_a_dry_run(geoi2i, tif, tmp_path):
    plan = geoi2i("run", "-i", tif, "-m", "identity", "--dry-run")
    assert plan.returncode == 0
    for word in ("body", "windows", "memory", "disk", "40 x 50"):
        assert word in plan.stdout
    assert not (tmp_path / "scene_identity.tif").exists()
    assert geoi2i("run", "-i", tif, "-m", "identity", "--preview", tmp_path / "p.png").returncode == 0
    with rasterio.open(tmp_path / "p.png") as picture:
        assert picture.count == 3 and picture.shape[1] >= 50


BAD = {
    "missing file": (["-i", "nope.tif"], "nope.tif does not exist"),
    "not a raster": (["-i", "text.tif"], "not a raster"),
    "cut off": (["-i", "cut.tif"], "damaged"),
    "zero bands": (["-i", "scene.tif", "--bands", ""], "No band"),
    "no such band": (["-i", "scene.tif", "--bands", "1,2,9"], "no band 9"),
    "complex": (["-i", "complex.tif"], "complex"),
    "no such folder": (["-i", "scene.tif", "-o", "no/such/out.tif"], "does not exist"),
    "output is input": (["-i", "scene.tif", "-o", "scene.tif", "--overwrite"], "input itself"),
    "exists": (["-i", "scene.tif", "-o", "text.tif"], "--overwrite"),
    "unknown model": (["-i", "scene.tif", "-m", "sorcery"], "sorcery"),
    "not an extent": (["-i", "scene.tif", "--bounds", "5,5,1,1"], "xmin,ymin,xmax,ymax"),
    "a CRS of nothing": (["-i", "scene.tif", "--bounds-crs", "EPSG:4326"], "give --bounds too"),
    "bounds in no CRS": (["-i", "scene.tif", "--bounds", "0,0,1,1", "--bounds-crs", "EPGS:4326"], "EPSG:4326"),
    "extent elsewhere": (["-i", "scene.tif", "--bounds", "0,0,1,1"], "do not touch"),
    "overlap too large": (["-i", "scene.tif", "--tile", "8", "--overlap", "7"], "overlap"),
    "uncertainty of one": (["-i", "scene.tif", "--uncertainty", "u.tif"], "--samples"),
    "no device": (["-i", "scene.tif", "--device", "cuda:7"], "cuda:7"),
    "unknown device": (["-i", "scene.tif", "--device", "abacus"], "abacus"),
    "empty glob": (["-i", "no*.jp2"], "matches no file"),
    "no input": ([], "No input"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_exit_code_2_and_nothing_left(geoi2i, name, tmp_path):
    scene(tmp_path / "scene.tif")
    scene(tmp_path / "complex.tif", count=1, dtype="complex64")
    (tmp_path / "text.tif").write_text("these are words")
    whole = scene(tmp_path / "whole.tif", height=600, width=300, compress="deflate").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    before = sorted(os.listdir(tmp_path))
    arguments, words = BAD[name]
    model = [] if "-m" in arguments else ["-m", "identity"]
    result = geoi2i("run", *arguments, *model, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr and "Traceback" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_no_coordinate_system_warns_and_goes_on(geoi2i, tmp_path):
    scene(tmp_path / "plain.tif", crs=None)
    result = geoi2i("run", "-i", tmp_path / "plain.tif", "-m", "identity")
    assert result.returncode == 0 and "no CRS" in result.stderr


def test_v_adds_the_traceback(geoi2i, tmp_path):
    result = geoi2i("run", "-i", tmp_path / "nope.tif", "-m", "identity", "-v")
    assert result.returncode == 2 and "Traceback" in result.stderr


def test_a_batch_does_the_rest_and_names_what_failed(geoi2i, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    scene(tmp_path / "in" / "a.tif")
    scene(tmp_path / "in" / "deep" / "b.tif")
    (tmp_path / "in" / "broken.tif").write_text("no")
    result = geoi2i("run", "-i", tmp_path / "in", "-o", tmp_path / "out", "-m", "identity")
    assert result.returncode == 3 and "broken.tif" in result.stderr
    assert (tmp_path / "out" / "a.tif").exists() and (tmp_path / "out" / "deep" / "b.tif").exists()
    assert not list((tmp_path / "out").rglob("broken*"))


def test_two_inputs_never_share_an_output(geoi2i, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        scene(tmp_path / folder / "a.tif")
    result = geoi2i("run", *tmp_path.glob("?/a.tif"), "-o", tmp_path / "out", "-m", "identity")
    assert result.returncode == 2 and "both be written" in result.stderr


@pytest.mark.slow
def test_a_list_on_stdin(tmp_path):
    paths = [scene(tmp_path / f"{k}.tif") for k in "ab"]
    result = process("run", "-i", "-", "-o", tmp_path / "out", "-m", "identity", input="\n".join(map(str, paths)))
    assert result.returncode == 0 and len(list((tmp_path / "out").glob("*.tif"))) == 2


@pytest.mark.slow
def test_json_events_are_alone_on_stdout(tif):
    result = process("run", "-i", tif, "-m", "identity", "--events", "json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1] == {"event": "done", "outputs": [str(tif.parent / "scene_identity.tif")]}
    assert {"event", "done", "total", "text"} <= set(next(e for e in events if e["event"] == "progress"))
    failed = process("run", "-i", tif.parent / "nope.tif", "-m", "identity", "--events", "json")
    last = json.loads(failed.stdout.splitlines()[-1])
    assert (last["event"], last["exit_code"], failed.returncode) == ("failed", 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_under_the_outputs_name(number, tmp_path):
    scene(tmp_path / "big.tif", height=6000, width=6000, compress="zstd", tiled=True)
    process = subprocess.Popen([sys.executable, "-m", "geoi2i", "run", "-i", str(tmp_path / "big.tif"),
                                "-m", "identity", "--tile", "64", "-o", str(tmp_path / "o.tif")],
                               stderr=subprocess.PIPE, text=True,  # what is started in the background ignores it
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 60
    while not (tmp_path / "o.tif.geoi2i-parts").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Interrupted" in error and "Traceback" not in error
    kept = ["o.tif.geoi2i-parts"] if "kept in" in error else []  # where a strip was whole by then
    assert sorted(os.listdir(tmp_path)) == ["big.tif", *kept]


@pytest.mark.slow
def test_train_refuses_what_cannot_work(geoi2i, tif, tmp_path):
    (tmp_path / "r.toml").write_text('name = "a"\nmethod = "sp_i2i"\n[optimiser]\nlearning_rate = 1\n')
    cases = [(["sp_i2i", "--source", "nope.tif", "--target", tif], "nope.tif"),
             ([tmp_path / "r.toml"], "learning_rate"), (["no.toml"], "no.toml"),
             (["sp_i2i", "--source", tif, "--target", tif, "--set", "data.batch"], "KEY=VALUE"),
             (["sp_i2i", "--source", tif, "--target", tif, "--set", "data.window_px=4000"], "window")]
    for arguments, words in cases:
        result = geoi2i("train", *arguments, "-o", tmp_path / "run", cwd=tmp_path)
        assert result.returncode == 2 and words in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "run").exists()


def test_train_to_run_end_to_end(geoi2i, tif, tmp_path, monkeypatch):
    sets = ["data.window_px=16", "data.batch=1", "network.sizes={width=4, blocks=0, style=4, embedding=8}",
            "settings={steps=2, levels=2, critic_width=4, critic_levels=1, gate_width=4}"]
    result = geoi2i("train", "sp_i2i", "--source", tif, "--target", tif, "-o", tmp_path / "run", "--steps", 2,
                    *[part for text in sets for part in ("--set", text)])
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run" / "sp-i2i"
    assert geoi2i("models", "verify", folder).returncode == 0
    shown = geoi2i("models", "show", folder)
    assert "sp-i2i" in shown.stdout and "2 steps, stochastic" in shown.stdout
    monkeypatch.setenv("GEOI2I_MODELS", str(tmp_path / "run"))
    assert "sp-i2i" in geoi2i("models", "list").stdout
    result = geoi2i("run", "-i", tif, "-m", folder, "-o", tmp_path / "o.tif", "--samples", 3,
                    "--uncertainty", tmp_path / "u.tif")
    assert result.returncode == 0, result.stderr
    with rasterio.open(tmp_path / "u.tif") as spread:
        assert spread.dtypes[0] == "float32" and (spread.read() >= 0).all() and spread.read().max() > 0


# --- for programs ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("last_words", [b"cancel\n", b""], ids=["the word", "the end of standard input"])
def test_standard_input_cancels_a_run(tmp_path, last_words):
    big, output = scene(tmp_path / "big.tif", 3000, 3000), tmp_path / "o.tif"
    process = subprocess.Popen([sys.executable, "-m", "geoi2i", "run", "-i", big, "-m", "jupiter-rgb", "-o", output,
                                "--events", "json", "--cancel-on-stdin"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "o.tif.geoi2i-parts").exists():
        assert process.poll() is None
        time.sleep(0.02)
    said, _ = process.communicate(last_words, timeout=20)
    assert process.returncode == 130 and json.loads(said.splitlines()[-1]) == {"event": "cancelled"}
    assert not list(tmp_path.glob("o.tif*"))


@pytest.mark.slow
def test_standard_input_serves_one_purpose(tif):
    done = process("run", "--input", "-", "--cancel-on-stdin", "-m", "identity", input="")
    assert done.returncode in (2, 130)
    held = subprocess.Popen([sys.executable, "-m", "geoi2i", "run", "--input", "-", "--cancel-on-stdin", "-m",
                             "identity"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert held.wait(20) == 2 and "cannot hold the list" in held.stderr.read()


def test_models_are_compared_with_a_raster(geoi2i, tif):
    listed = geoi2i("models", "list", "--for", tif, "--json")
    model = next(model for model in map(json.loads, listed.stdout.splitlines()) if model["name"] == "jupiter-rgb")
    assert any("Jupiter" in reason and "Earth" in reason for reason in model["misfits"])
    assert "does not suit" in geoi2i("models", "list", "--for", tif).stdout
    sample = Path(__file__).resolve().parents[2] / "resources/samples/jupiter-cassini.tif"
    assert "suits" in geoi2i("models", "list", "--for", sample).stdout


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_remedy(tif, tmp_path):
    (tmp_path / "rasterio.py").write_text("raise ModuleNotFoundError(\"No module named 'rasterio'\", name='rasterio')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from geoi2i.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "run", "-i", tif, "-m", "identity"], capture_output=True,
                          text=True)
    assert done.returncode == 2 and "lacks the package rasterio" in done.stderr and "Traceback" not in done.stderr
