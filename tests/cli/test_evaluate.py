"""`geoi2i evaluate` as a user meets it: tables, files, folders, sentences, exit codes, and nothing half-written."""

import csv
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import rasterio
from affine import Affine

PLACE = Affine(10, 0, 500_000, 0, -10, 4_500_000)
TRUTH = np.random.default_rng(0).integers(20, 230, (3, 70, 90), dtype="uint8")


@pytest.fixture
def evaluate(geoi2i):
    return partial(geoi2i, "evaluate")


def scene(path, pixels=TRUTH, place=PLACE, crs="EPSG:32631", **facts):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype=pixels.dtype, crs=crs, transform=place, **facts) as out:
        out.write(pixels)
    return path


@pytest.fixture
def truth(tmp_path):
    return scene(tmp_path / "truth.tif")


@pytest.fixture
def guess(tmp_path):
    return scene(tmp_path / "guess.tif", TRUTH + np.uint8(3))


def test_a_table_on_screen_and_the_same_numbers_in_files(evaluate, guess, truth, tmp_path):
    done = evaluate("-p", guess, "-r", truth, "--json", tmp_path / "o.json", "--csv", tmp_path / "o.csv", "--report",
                    tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert "against reference truth.tif: the same pixels" in done.stdout and "PSNR" in done.stdout
    facts = json.loads((tmp_path / "o.json").read_text())
    found = {s["metric"]: s for c in facts["comparisons"] if c["kind"] == "reference" for s in c["scores"]}
    assert found["bias"]["value"] == found["rmse"]["value"] == 3 and found["psnr"]["unit"] == "dB"
    assert found["psnr"]["value"] == pytest.approx(20 * np.log10(255 / 3), rel=1e-12)
    with open(tmp_path / "o.csv") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file) if row["comparison"] == "reference"}
    assert {name: float(row["value"]) for name, row in rows.items()} == {n: s["value"] for n, s in found.items()}
    assert "guess.tif" in (tmp_path / "report" / "index.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["guess.tif", "o.csv", "o.json", "report", "truth.tif"]


def test_named_metrics_are_computed_and_no_others(evaluate, guess, truth, tmp_path):
    done = evaluate(guess, "-r", truth, "--metric", "rmse", "--metric", "ssim", "--json", tmp_path / "o.json")
    assert done.returncode == 0
    (comparison,) = json.loads((tmp_path / "o.json").read_text())["comparisons"]
    assert [s["metric"] for s in comparison["scores"]] == ["rmse", "ssim"]


def test_a_folder_is_measured_against_one_of_the_same_names(evaluate, tmp_path):
    for k, name in enumerate(("a", "deep/b", "c")):
        scene(tmp_path / "guesses" / f"{name}.tif", TRUTH + np.uint8(k))
        scene(tmp_path / "truths" / f"{name}.tif")
    done = evaluate("-p", tmp_path / "guesses", "-r", tmp_path / "truths", "--metric", "bias", "--json",
                    tmp_path / "o.json", "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "o.json").read_text())
    assert [(f["prediction"].rsplit("guesses/")[1], f["comparisons"][0]["scores"][0]["value"]) for f in facts] == [
        ("a.tif", 0), ("c.tif", 2), ("deep/b.tif", 1)]
    assert done.stdout.count("Wrote") == 5
    index = (tmp_path / "report" / "index.html").read_text()
    for page in ("a/index.html", "deep/b/index.html"):
        assert page in index and (tmp_path / "report" / page).is_file()


def test_one_bad_raster_of_a_batch_is_named_and_the_rest_done(evaluate, tmp_path):
    scene(tmp_path / "guesses" / "a.tif")
    scene(tmp_path / "guesses" / "b.tif", place=PLACE @ Affine.translation(0.5, 0))
    (tmp_path / "guesses" / "c.tif").write_bytes(b"no raster")
    truth = scene(tmp_path / "truth.tif")
    done = evaluate(tmp_path / "guesses", "-r", truth, "--csv", tmp_path / "o.csv")
    assert done.returncode == 3 and "2 of 3 rasters failed" in done.stderr
    assert "a fraction of a pixel" in done.stderr and "c.tif is not a raster" in done.stderr
    assert "a.tif" in (tmp_path / "o.csv").read_text()
    assert evaluate(tmp_path / "guesses" / "c.tif", tmp_path / "guesses" / "b.tif", "-r", truth).returncode == 2


def test_partners_that_cannot_be_told_are_refused(evaluate, tmp_path):
    for name in ("a", "b", "c"):
        scene(tmp_path / "guesses" / f"{name}.tif")
    for name in ("a", "b"):
        scene(tmp_path / "truths" / f"{name}.tif")
    done = evaluate(tmp_path / "guesses", "-r", tmp_path / "truths")
    assert done.returncode == 2 and "--reference has nothing for" in done.stderr and "c.tif" in done.stderr


BAD = {
    "other system": (lambda d: scene(d / "r.tif", crs="EPSG:32632"), "UTM zone 31N and WGS 84 / UTM zone 32N"),
    "other pixels": (lambda d: scene(d / "r.tif", place=PLACE @ Affine.scale(2)), "10 x 10 and 20 x 20 units"),
    "no system": (lambda d: scene(d / "r.tif", crs=None), "no CRS"),
    "elsewhere": (lambda d: scene(d / "r.tif", place=PLACE @ Affine.translation(900, 0)), "no pixel in common"),
    "other bands": (lambda d: scene(d / "r.tif", TRUTH[:2]), "the prediction 3"),
    "missing": (lambda d: d / "nothing.tif", "does not exist"),
    "no raster": (lambda d: (d / "r.tif").write_bytes(b"x" * 99) and d / "r.tif", "not a raster"),
    "complex": (lambda d: scene(d / "r.tif", TRUTH.astype("complex64")), "complex numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_reference_that_cannot_be_used_has_its_sentence_and_leaves_nothing(evaluate, guess, tmp_path, kind):
    make, sentence = BAD[kind]
    done = evaluate(guess, "-r", make(tmp_path), "--json", tmp_path / "o.json", "--report", tmp_path / "report")
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "o.json").exists() and not (tmp_path / "report").exists()


def test_onto_compares_rasters_of_other_systems_on_purpose(evaluate, guess, tmp_path):
    other = scene(tmp_path / "r.tif", place=PLACE @ Affine.scale(2))
    done = evaluate(guess, "-r", other, "--resample-to", "reference", "--resampling", "average", "--metric", "rmse")
    assert done.returncode == 0 and "to whose grid the prediction was resampled (average)" in done.stdout, done.stderr


def test_what_fails_beside_others_is_said_and_the_others_are_written(evaluate, guess, truth, tmp_path):
    elsewhere = scene(tmp_path / "s.tif", crs="EPSG:32632")
    done = evaluate(guess, "-r", truth, "-s", elsewhere, "--json", tmp_path / "o.json")
    assert done.returncode == 2 and "have different pixels" in done.stderr
    kinds = {c["kind"]: c for c in json.loads((tmp_path / "o.json").read_text())["comparisons"]}
    assert kinds["reference"]["scores"] and "different pixels" in kinds["source"]["failure"]


def test_a_constant_or_empty_prediction_keeps_the_metrics_that_are_defined(evaluate, truth, tmp_path):
    flat = scene(tmp_path / "flat.tif", np.full_like(TRUTH, 9))
    done = evaluate(truth, "-r", flat)
    assert done.returncode == 0 and "high-band energy has no value" in done.stdout and "RMSE" in done.stdout
    empty = scene(tmp_path / "empty.tif", np.zeros_like(TRUTH), nodata=0)
    nothing = evaluate(empty, "-r", truth)
    assert nothing.returncode == 0 and "PSNR has no value: no pixel has data in both images" in nothing.stdout
    asked = evaluate(empty, "-r", truth, "--metric", "mae", "--metric", "ssim")
    first, *reasons, remedy = asked.stderr[asked.stderr.index("Error: "):].splitlines()
    assert asked.returncode == 2 and first.endswith("empty.tif failed:") and remedy.startswith("Choose"), asked.stderr
    assert [reason.split()[0] for reason in reasons] == ["MAE", "SSIM"]


def test_a_metric_that_is_asked_for_and_cannot_be_had_is_no_success(evaluate, guess, truth, tmp_path):
    done = evaluate(guess, "-r", truth, "--metric", "lpips", "--metric", "rmse", "--csv", tmp_path / "o.csv")
    assert done.returncode == 2 and "alexnet-owt-7be5be79.pth" in done.stderr and "downloads no weights" in done.stderr
    assert "rmse,3.0" in (tmp_path / "o.csv").read_text()


def test_nothing_is_overwritten_unasked(evaluate, guess, truth, tmp_path):
    (tmp_path / "o.json").write_text("mine")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("mine")
    for option, place in (("--json", tmp_path / "o.json"), ("--report", tmp_path / "report")):
        done = evaluate(guess, "-r", truth, option, place)
        assert done.returncode == 2 and "--overwrite" in done.stderr
    assert (tmp_path / "o.json").read_text() == (tmp_path / "report" / "index.html").read_text() == "mine"
    done = evaluate(guess, "-r", truth, "--json", tmp_path / "no" / "o.json")
    assert done.returncode == 2 and "does not exist" in done.stderr
    assert evaluate(guess, "-r", truth, "--json", tmp_path / "o.json", "--overwrite").returncode == 0
    assert json.loads((tmp_path / "o.json").read_text())


def test_what_cannot_be_written_is_refused_before_anything_is_measured(evaluate, guess, truth, tmp_path):
    before = guess.read_bytes()
    for arguments, sentence in ((("--json", guess, "--overwrite"), "one of the rasters"),
                                (("--csv", truth, "--overwrite"), "one of the rasters"),
                                (("--json", tmp_path / "o", "--csv", tmp_path / "o"), "named for two outputs"),
                                (("--report", guess), "is not a folder: create it"),
                                (("--report", "/proc/nowhere/page"), "cannot be written")):
        done = evaluate(guess, "-r", truth, *arguments)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert guess.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["guess.tif", "truth.tif"]


def test_a_report_may_be_named_as_a_file(evaluate, guess, truth, tmp_path):
    assert evaluate(guess, "-r", truth, "--report", tmp_path / "new" / "page.html").returncode == 0
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize("arguments, sentence", [
    ((), "No prediction is given"), (("g",), "nothing to compare with"),
    (("g", "-r", "t", "--metric", "ssmi"), "did you mean 'ssim'"), (("g", "-r", "t", "--range", "5"), "2 numbers"),
    (("g", "-r", "t", "--range", "5,5"), "is empty"), (("g", "-r", "t", "--pan", "t"), "--source"),
    (("g", "--metric", "d_s", "-r", "t"), "give --source and --pan"), (("g", "-r", "t", "--rgb", "1,2"), "--rgb"),
    (("g", "--uncertainty", "t"), "--reference"), (("g", "-r", "t", "--bands", "4"), "has no band 4")])
def test_options_that_make_no_sense_are_refused(evaluate, guess, truth, arguments, sentence):
    done = evaluate(*({"g": guess, "t": truth}.get(a, a) for a in arguments))
    assert done.returncode == 2 and sentence.lower() in done.stderr.lower() and "Traceback" not in done.stderr


def test_an_unknown_sensor_is_named_with_those_there_are(evaluate, guess, truth):
    done = evaluate(guess, "-s", truth, "--pan", truth, "--sensor", "QuickBird")
    assert done.returncode == 2 and "QB" in done.stderr and "Traceback" not in done.stderr


def test_seams_need_no_reference_and_their_step_may_be_given(evaluate, tmp_path):
    steps = np.repeat(np.arange(40) % 2 * 9, 32)
    image = (TRUTH[:1, :64, :64].repeat(6, 1).repeat(6, 2)[:, :384, :384] // 4 + 50 + steps[:384]).astype("uint8")
    seamed = scene(tmp_path / "s.tif", image)
    for option in (("--seams",), ("--seam-step", 32)):
        done = evaluate(*option, seamed)
        assert done.returncode == 0 and "seams between columns" in done.stdout, done.stderr
    assert "Window borders stand out every 32 pixels" in done.stdout


@pytest.mark.slow
def test_programs_get_json_lines_only(guess, truth):
    done = subprocess.run([sys.executable, "-m", "geoi2i", "evaluate", guess, "-r", truth, "--metric", "rmse",
                           "--events", "json"], capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and events[-1] == {"event": "done", "outputs": []}
    assert any(e["event"] == "message" and "RMSE" in e["text"] for e in events)


def test_the_list_names_every_metric_with_what_it_is(evaluate):
    from geoi2i.core.metrics.catalogue import METRICS

    done = evaluate("--list")
    assert done.returncode == 0
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed == set(METRICS) and "Structural similarity (Wang et al. 2004)" in done.stdout


@pytest.mark.slow
def test_models_are_judged_beside_each_other_as_what_they_make_of_the_source_would_be(geoi2i, guess, truth, tmp_path):
    for name, target in (("a", truth), ("b", guess)):  # two folders, models of one name
        fitted = geoi2i("fit", "moments", "--source", guess, "--target", target, "-o", tmp_path / name / "m")
        assert fitted.returncode == 0, fitted.stderr
    done = geoi2i("evaluate", "-s", guess, "-r", truth, "--beside", "identity", "--beside", tmp_path / "a/m",
                  "--beside", tmp_path / "b/m", "--metric", "rmse", "--json", tmp_path / "o.json",
                  "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout[done.stdout.index("          identity") - 40:].splitlines()
    assert header.split() == ["identity", "a-m", "b-m"]
    found = [next(s["value"] for c in facts["comparisons"] if c["kind"] == "reference" for s in c["scores"])
             for facts in json.loads((tmp_path / "o.json").read_text())]
    assert found == pytest.approx([3, 0, 3], abs=1e-3)
    assert [float(v) for v in lines[0].split()[-3:]] == pytest.approx(found, abs=1e-3)
    assert geoi2i("run", "-i", guess, "-m", tmp_path / "a/m", "-o", tmp_path / "out.tif").returncode == 0
    alone = geoi2i("evaluate", tmp_path / "out.tif", "-r", truth, "--metric", "rmse", "--json", tmp_path / "p.json")
    assert alone.returncode == 0
    (comparison,) = json.loads((tmp_path / "p.json").read_text())["comparisons"]
    assert comparison["scores"][0]["value"] == found[1]
    page = (tmp_path / "report" / "index.html").read_text()
    assert all(f"{name}/index.html" in page for name in ("identity", "a-m", "b-m"))


def test_models_beside_need_one_source_and_must_be_there(geoi2i, guess, truth, tmp_path):
    none = geoi2i("evaluate", guess, "-r", truth, "--beside", "identity")
    assert none.returncode == 2 and "--beside translates one --source, and 0 are given" in none.stderr
    unknown = geoi2i("evaluate", "-s", guess, "-r", truth, "--beside", "nosuch", "--report", tmp_path / "report")
    assert unknown.returncode == 2 and "nosuch" in unknown.stderr and not (tmp_path / "report").exists()
