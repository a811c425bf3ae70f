"""A network and closed forms are judged on the same windows, and what is held out reaches none of them."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.models.package import ModelPackage
from geoi2i.training.closed_forms import identity
from geoi2i.training.data import open_domains
from geoi2i.training.export import export_run
from geoi2i.training.log import iterate_log
from geoi2i.training.loop import train
from geoi2i.training.processes import connect
from geoi2i.training.recipe import describe_bands, make_recipe
from geoi2i.training.validation import Comparison, closed_forms, compare, judge_of

pytestmark = pytest.mark.slow

PLACE, SIDE = Affine(30, 0, 500_000, 0, -30, 4_500_000), 32
MIX = np.array([[1.2, -0.3], [0.2, 0.8]])


def write(path, pixels):
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype="float32", crs="EPSG:32631", transform=PLACE) as out:
        out.write(pixels.astype("float32"))
    return str(path)


def scene(seed=0, height=256, width=128):
    return 100 + 10 * np.random.default_rng(seed).normal(size=(2, height, width))


def recipe_of(tmp_path, source, target, method="pix2pix", **more):
    content = {"name": "small", "method": method, "data": {
        "source": {"paths": [write(tmp_path / "a.tif", source)]},
        "target": {"paths": [write(tmp_path / "b.tif", target)]}, "window_px": SIDE, "validation": 0.25, "batch": 2,
        **more}, "network": {"start": "identity", "sizes": {"width": 4, "blocks": 1, "embedding": 8}},
        "settings": {"lambda_gan": 0} if method == "pix2pix" else {},
        "budget": {"steps": 2, "preview_every": 1, "log_every": 1}}
    return describe_bands(make_recipe(content, {}, "test"))


def rows_of(recipe):
    domains = open_domains(recipe)
    judge = judge_of(domains, recipe, connect("cpu")[0])
    return judge, compare(judge, closed_forms(domains, recipe, print)).closed_forms


def test_an_affine_target_is_solved_and_the_source_as_it_is_has_the_figures_of_numpy(tmp_path):
    source = scene()
    recipe = recipe_of(tmp_path, source, np.tensordot(MIX, source, 1) + 7)
    judge, found = rows_of(recipe)
    assert found["linear, bands alone"]["psnr"] > 90
    low, high = (np.array([getattr(spec, end) for spec in recipe.bands.target])[:, None, None]
                 for end in ("minimum", "maximum"))
    edge, table = SIDE // 4, judge.domains.source.candidates
    errors = []
    for k in judge.picks:
        part = np.s_[:, *(slice(start[k] + edge, start[k] + SIDE - edge) for start in (table.row, table.col))]
        errors.append((source[part] - (np.tensordot(MIX, source[part], 1) + 7)) / (high - low))
    assert found["identity"]["psnr"] == pytest.approx(-10 * np.log10(np.mean(np.square(errors))), abs=1e-3)


@pytest.mark.parametrize("method", ["pix2pix", "cut"])
def test_nothing_that_is_held_out_reaches_a_closed_form(tmp_path, method):
    source, other = scene(), scene(1) * 2 + 3
    fits = []
    for wrong in (0, 5000):
        target = other.copy()
        target[:, 192 - SIDE:] += wrong  # the gap and what is held out
        recipe = recipe_of(tmp_path, source, target, method).model_copy(
            update={"bands": describe_bands(recipe_of(tmp_path, source, other, method)).bands})
        recipe_of(tmp_path, source, target, method)
        fits.append(closed_forms(open_domains(recipe), recipe, print))
    assert fits[0] and {name.split(":")[0] for name in fits[0]} == {name.split(":")[0] for name in fits[1]}
    for name in set(fits[0]) & set(fits[1]):
        one, two = (fit[name] for fit in fits)
        assert (one.normalise_in, one.normalise_out) == (two.normalise_in, two.normalise_out), name
        for key, value in one.network.state_dict().items():
            assert torch.equal(value, two.network.state_dict()[key]), (name, key)


def test_training_says_whether_the_network_beats_the_closed_forms(tmp_path):
    source, said = scene(), []
    recipe = recipe_of(tmp_path, source, np.tensordot(MIX, source, 1) + 7)
    run = train(recipe, tmp_path / "run", device="cpu", message=said.append)
    assert said[-1].startswith("The network does not beat the best closed form on 32 windows of held-out data")
    assert "geoi2i fit linear" in said[-1] and any("linear, bands alone" in line for line in said)
    lines = list(iterate_log(tmp_path / "run" / "log.jsonl"))
    assert lines[0]["step"] == 0 and lines[0]["psnr of linear, bands alone"] > 90 and "psnr" in lines[-1]
    package = export_run(run, tmp_path / "model")
    told = ModelPackage.load(package.folder).manifest.metrics["validation"]
    assert told["statement"] == said[-1] and told["network"]["psnr"] == pytest.approx(lines[-1]["psnr"], abs=1e-4)


def test_a_network_that_begins_at_a_closed_form_is_never_worse_and_training_stops_where_it_gets_no_better(tmp_path):
    source, said = scene(), []
    target = np.tensordot(MIX, source, 1) + 7 + np.random.default_rng(3).normal(size=source.shape)
    recipe = recipe_of(tmp_path, source, target)
    recipe = recipe.model_copy(update={
        "network": recipe.network.model_copy(update={"start": None}),
        "optimiser": recipe.optimiser.model_copy(update={"lr": 0.1, "warmup_steps": 0}),
        "budget": recipe.budget.model_copy(update={"steps": 50, "patience": 3})})
    run = train(recipe, tmp_path / "run", device="cpu", message=said.append)
    assert "equals the best closed form" in said[-1] and run.step < 50 and said[-2].startswith("Stopped at step 3")
    best = max(line["psnr"] for line in iterate_log(tmp_path / "run" / "log.jsonl") if "psnr" in line)
    assert run.comparison.network["psnr"] == pytest.approx(best, abs=1e-4)


def test_unpaired_sides_are_judged_by_colours_and_a_closed_form_that_cannot_be_is_named(tmp_path):
    source, said = scene(), []
    source[1] = source[0]  # transport has no inverse
    recipe = recipe_of(tmp_path, source, scene(1), "cut")
    domains = open_domains(recipe)
    judge = judge_of(domains, recipe, connect("cpu")[0])
    found = compare(judge, closed_forms(domains, recipe, said.append)).closed_forms
    assert list(found) == sorted(found, key=lambda name: found[name]["colour_distance"])
    assert {"identity", "moments", "histogram"} == set(found) and "No closed form transport" in said[0]


@pytest.mark.parametrize("scale", [3, "5/2"])
def test_super_resolution_is_judged_on_windows_that_begin_with_a_pixel_of_the_source(tmp_path, scale):
    coarse = scene(0, 100, 50)
    fine = np.kron(coarse, np.ones((3, 3)))
    recipe = recipe_of(tmp_path, coarse, fine, scale=scale)
    if scale == 3:
        with rasterio.open(tmp_path / "b.tif", "r+") as data:
            data.transform = PLACE @ Affine.scale(1 / 3)
        judge, found = rows_of(recipe)
        table = judge.domains.source.candidates
        assert not (table.row[judge.picks] % 3).any() and not (table.col[judge.picks] % 3).any()
        assert found["linear, bands alone"]["psnr"] > 60  # each phase is its source pixel
    else:
        write(tmp_path / "b.tif", scene(0, 250, 125))
        with rasterio.open(tmp_path / "b.tif", "r+") as data:
            data.transform = PLACE @ Affine.scale(2 / 5)
        assert set(rows_of(recipe)[1]) == {"identity"}


def test_a_comparison_names_what_won():
    best = {"linear: bands": {"psnr": 30.0, "ssim": 0.9}, "identity": {"psnr": 20.0, "ssim": 0.5}}
    won = Comparison("windows", True, best, {"psnr": 31.0, "ssim": 0.95}).statement()
    assert "beats the best closed form" in won and "31.00" in won and "30.00" in won and "Use" not in won
    lost = Comparison("windows", True, best, {"psnr": 29.0, "ssim": 0.95}).statement()
    assert "does not beat" in lost and "geoi2i fit linear" in lost
    assert identity(2).network(torch.ones(1, 2, 4, 4), None, None).eq(1).all()
