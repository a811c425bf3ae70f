"""A training begins at the closed form of its data, and its first steps do not throw that away."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.models.package import ModelPackage
from geoi2i.core.run import translate_raster
from geoi2i.training.augmentation import augmentation
from geoi2i.training.closed_forms import fit_linear, fit_transport
from geoi2i.training.data import open_domains, seed_of
from geoi2i.training.export import export_run
from geoi2i.training.loop import train, train_step
from geoi2i.training.preview import translated
from geoi2i.training.processes import connect
from geoi2i.training.recipe import describe_bands, make_recipe
from geoi2i.training.start import begin, solve_start
from geoi2i.training.state import start_run
from geoi2i.training.validation import sides_of

pytestmark = pytest.mark.slow

PLACE = Affine(30, 0, 500_000, 0, -30, 4_500_000)
MIX = np.array([[1.1, -0.3, 0.2], [0.2, 0.8, 0.1], [0.0, 0.3, 0.7]])
NETWORKS = {"resnet": {"width": 8, "blocks": 1, "levels": 0, "embedding": 8},
            "unet": {"width": 8, "blocks": 1, "levels": 1, "embedding": 8},
            "plain": {"width": 8, "neighbourhood": 3, "squares": 1}}


def write(path, pixels):
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype="float32", crs="EPSG:32631", transform=PLACE) as out:
        out.write(pixels.astype("float32"))
    return str(path)


def images(seed=0):
    """A source, and a target that is an affine map of it, but for noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(3, 134, 134))
    source = 100 + 20 * sum(noise[:, y : y + 128, x : x + 128] for y in range(7) for x in range(7)) / 7
    return source, np.tensordot(MIX, source, 1) + 15 + 2 * rng.normal(size=source.shape)


def recipe_of(tmp_path, method, network="resnet", target=None, start=None, **optimiser):
    source, made = images()
    settings = {"pix2pix": {"lambda_gan": 0}, "sp_i2i": {"steps": 2, "levels": 2, "critic_width": 4, "critic_levels": 1,
                                                         "gate_width": 4, "lambda_sb": 0}}.get(method, {})
    content = {"name": "small", "method": method, "data": {
        "source": {"paths": [write(tmp_path / "a.tif", source)]},
        "target": {"paths": [write(tmp_path / "b.tif", made if target is None else target)]},
        "window_px": 32, "batch": 4},
        "network": {"name": network, "sizes": NETWORKS[network], **({"start": start} if start else {})},
        "settings": settings, "optimiser": {"lr": 1e-3, **optimiser},
        "budget": {"steps": 40, "preview_every": 40}}
    return describe_bands(make_recipe(content, {}, "test"))


def begun(recipe):
    """(run, domains, fabric) before the first step."""
    fabric, _ = connect("cpu")
    run, domains = start_run(recipe, fabric), open_domains(recipe)
    start = solve_start(recipe, run.method, run.networks, sides_of(domains, recipe), domains.paired)
    if start:
        begin(run, start)
    return run, domains.seen_through(run.front) if run.front else domains, fabric


def step(run, domains, fabric):
    torch.manual_seed(seed_of(run.recipe, 0))
    batch = augmentation(run.recipe, domains.paired)(domains.batch(run.recipe, 0))
    train_step(run, batch, fabric)
    run.step += 1


def shown(run, domains):
    """A fixed batch and what the trained generator makes of it."""
    batch = domains.batch(run.recipe, -5)
    with torch.no_grad():
        return batch, translated(run.networks["generator"].eval(), run.method.steps(), batch["source"])


@pytest.mark.parametrize("network", NETWORKS)
def test_paired_training_begins_at_least_squares_and_keeps_it_through_the_first_step(tmp_path, network):
    recipe = recipe_of(tmp_path, "pix2pix", network)
    run, domains, fabric = begun(recipe)
    batch, made = shown(run, domains)
    before = float((made - batch["target"]).abs().mean())
    fit = fit_linear(sides_of(domains, recipe), {"neighbourhood": 3, "squares": 1} if network == "plain" else {})
    windows = domains.source.normalised_by(fit.normalise_in).windows(np.arange(4))
    same = domains.source.windows(np.arange(4))
    with torch.no_grad():
        wanted = fit.network(windows, None, None) * torch.tensor(fit.normalise_out.std)[:, None, None]
        wanted = wanted + torch.tensor(fit.normalise_out.mean)[:, None, None]
        affine = recipe.bands.normalise_out.resolve(None)
        wanted = wanted * torch.tensor(affine.gain)[:, None, None] + torch.tensor(affine.bias)[:, None, None]
        mine = run.networks["generator"](same, torch.zeros(4), None)
    inner = np.s_[:, :, 2:-2, 2:-2]
    assert torch.allclose(mine[inner], wanted[inner].float(), atol=2e-3)
    identity = float((domains.batch(recipe, -5)["source"] - batch["target"]).abs().mean())
    assert before < identity / 2
    step(run, domains, fabric)
    after = float((shown(run, domains)[1] - batch["target"]).abs().mean())
    assert after != before and after <= 1.1 * before


@pytest.mark.parametrize("method", ["cut", "cyclegan", "stegogan", "sp_i2i", "unsb"])
def test_unpaired_training_begins_at_transport_and_its_image_moves_little_in_the_first_step(tmp_path, method):
    recipe = recipe_of(tmp_path, method, target=images(1)[1])
    run, domains, fabric = begun(recipe)
    assert run.front is not None
    fit = fit_transport(sides_of(open_domains(recipe), recipe))
    physical = domains.source.normalised_by(fit.normalise_in).windows(np.arange(8))
    with torch.no_grad():
        moved = fit.network(physical, None, None) * torch.tensor(fit.normalise_out.std)[:, None, None]
    moved = moved + torch.tensor(fit.normalise_out.mean)[:, None, None]
    affine = recipe.bands.normalise_out.resolve(None)
    wanted = moved * torch.tensor(affine.gain)[:, None, None] + torch.tensor(affine.bias)[:, None, None]
    assert torch.allclose(domains.source.windows(np.arange(8)), wanted.float(), atol=1e-4)
    before = shown(run, domains)[1]
    step(run, domains, fabric)
    after = shown(run, domains)[1]
    assert (after - before).square().mean().sqrt() <= 0.1 * before.std()


def test_a_model_translates_as_the_closed_form_that_it_begins_with(tmp_path):
    """The package of a run without a step that counts: its rate is nearly zero."""
    recipe = recipe_of(tmp_path, "cut", target=images(1)[1], lr=1e-12)
    recipe = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 1})})
    run = train(recipe, tmp_path / "run", device="cpu")
    package = export_run(run, tmp_path / "run" / "small")
    out = translate_raster(str(tmp_path / "a.tif"), tmp_path / "out.tif", ModelPackage.load(package.folder))
    with rasterio.open(out) as data, rasterio.open(tmp_path / "b.tif") as other:
        made, target = data.read().reshape(3, -1), other.read().reshape(3, -1)
    assert np.allclose(made.mean(1), target.mean(1), rtol=1e-3)
    assert np.allclose(np.cov(made), np.cov(target), rtol=2e-2, atol=1)


def test_a_resumed_run_sees_through_the_same_front(tmp_path):
    recipe = recipe_of(tmp_path, "cut", target=images(1)[1])
    short = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 1})})
    first = train(short, tmp_path / "run", device="cpu")
    longer = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 2})})
    second = train(longer, tmp_path / "run", device="cpu", resume=True)
    assert second.front == first.front is not None and second.step == 2


def test_the_identity_is_where_training_begins_where_it_is_asked_for_or_bands_do_not_match(tmp_path):
    run, _, _ = begun(recipe_of(tmp_path, "cut", start="identity"))
    assert run.front is None
    image = torch.rand(1, 3, 8, 8)
    level = run.networks["generator"].level
    assert torch.equal(level(image), image)


def test_a_start_that_cannot_be_had_is_refused_where_it_is_asked_for(tmp_path):
    run = start_run(recipe_of(tmp_path, "cut"), connect("cpu")[0])
    two = recipe_of(tmp_path, "unsb", target=images(1)[1][:2], start="closed_form")
    domains = open_domains(two)
    with pytest.raises(RecipeError, match="needs as many target bands as source bands"):
        solve_start(two, run.method, run.networks, sides_of(domains, two), False)


def test_a_network_without_time_is_refused_by_methods_that_walk_in_steps(tmp_path):
    with pytest.raises(RecipeError, match="Network plain takes no time, and method sr3 walks in steps"):
        start_run(recipe_of(tmp_path, "sr3", "plain"), connect("cpu")[0])


def test_the_head_of_noise_and_drift_is_left_as_it_is_and_learns_at_the_full_rate(tmp_path):
    walking, _, _ = begun(recipe_of(tmp_path, "i2sb"))
    assert walking.front is not None and walking.networks["generator"].head.weight.abs().max() > 0
    assert {group["base_lr"] for group in walking.optimisers["generator"].param_groups} == {1e-3}
    image, _, _ = begun(recipe_of(tmp_path, "pix2pix"))
    assert not image.networks["generator"].head.weight.any()
    assert {group["base_lr"] for group in image.optimisers["generator"].param_groups} == {1e-3, 2e-4}
