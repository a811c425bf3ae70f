"""Laws of every method: settings survive the recipe, players step alone, what was trained runs on any raster."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.run import Compute, Options, translate_raster
from geoi2i.training.data import open_domains
from geoi2i.training.export import export_run
from geoi2i.training.loop import train, train_step
from geoi2i.training.methods import METHODS
from geoi2i.training.processes import connect
from geoi2i.training.recipe import bundled_recipes, describe_bands, load_recipe, make_recipe
from geoi2i.training.state import start_run

GENERAL = [name for name in METHODS if name != "cdiffset"]  # which begins with weights, and has tests of its own
SMALL = {"critic_width": 4, "critic_levels": 1}
SETTINGS = {
    "sp_i2i": {**SMALL, "steps": 3, "levels": 2, "gate_width": 4}, "unsb": {**SMALL, "steps": 3, "nce_width": 8},
    "cut": {**SMALL, "nce_width": 8, "flip_equivariance": True}, "cyclegan": {**SMALL, "pool": 3},
    "stegogan": {**SMALL, "pool": 3}, "pix2pix": SMALL, "bbdm": {"steps": 3, "indices": 20, "sees_source": True},
    "i2sb": {"steps": 3, "indices": 20}, "sr3": {"steps": 3, "indices": 20, "last_beta": 0.3},
    "resshift": {"steps": 3}, "flow": {"steps": 3, "indices": 20}, "unidb": {"steps": 3, "indices": 20},
    "dgdm": {"steps": 3, "indices": 20},
    "supresdiffgan": {**SMALL, "steps": 3, "indices": 20, "last_beta": 0.5}}


def write(path, pixels):
    with rasterio.open(path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], dtype=pixels.dtype,
                       width=pixels.shape[2], crs="EPSG:32633", transform=Affine(30, 0, 0, 0, -30, 0)) as out:
        out.write(pixels)
    return str(path)


@pytest.fixture
def recipe(tmp_path):
    """`recipe(method, **settings)`: a source of random blocks, and a target that is its negative."""
    blocks = np.random.default_rng(0).integers(20, 230, (3, 24, 20), np.uint8)
    source = np.kron(blocks, np.ones((1, 4, 4), np.uint8))
    paths = {"source": write(tmp_path / "a.tif", source), "target": write(tmp_path / "b.tif", 255 - source)}

    def make(method, steps=20, **settings):
        content = {"name": method.replace("_", "-"), "method": method,
                   "data": {side: {"paths": [path]} for side, path in paths.items()} | {"window_px": 16, "batch": 2},
                   "network": {"name": "resnet", "sizes": {"width": 4, "blocks": 2, "levels": 1, "embedding": 8}},
                   "budget": {"steps": steps, "log_every": 10, "checkpoint_every": 10, "preview_every": 10},
                   "settings": {**SETTINGS[method], **settings}}
        return describe_bands(make_recipe(content, {}, "test"))

    return make


def state(network):
    """Everything that a checkpoint holds of a network."""
    return {key: value.clone() for key, value in network.state_dict().items() if isinstance(value, torch.Tensor)}


def changed(before, network):
    return any(not torch.equal(value, before[key]) for key, value in state(network).items())


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_recipe_that_comes_with_geoi2i_is_one(name):
    made = load_recipe(bundled_recipes()[name])
    assert made.name == name.replace("_", "-") and METHODS[made.method]
    assert f"geoi2i train {name} " in bundled_recipes()[name].read_text() or name == "jupiter-rgb"


def test_every_method_has_a_recipe_of_its_name():
    assert METHODS.keys() <= bundled_recipes().keys()


@pytest.mark.parametrize("name", GENERAL)
def test_settings_survive_the_recipe(recipe, name):
    made = recipe(name)
    assert METHODS[name].settings_type(**made.settings).model_dump(mode="json") == made.settings
    assert made.settings.items() >= SETTINGS[name].items()
    with pytest.raises(RecipeError, match="lambda_wrong"):
        recipe(name, lambda_wrong=1)


@pytest.mark.parametrize("name", GENERAL)
def test_each_player_moves_its_own_networks_only_and_all_of_them(recipe, name):
    made = recipe(name)
    fabric, processes = connect("cpu")
    domains, run = open_domains(made), start_run(made, fabric, processes)
    torch.manual_seed(0)
    owners = {network: player for player, networks in run.method.players.items() for network in networks}
    seen = []
    alive = {f"{name}.{key}": False for name in owners for key, _ in run.networks[name].named_parameters()}
    for step in range(3):
        for loss in run.method.losses(run.networks, domains.batch(made, step)):
            before = {key: state(network) for key, network in run.networks.items()}
            for network in run.networks.values():
                network.zero_grad(set_to_none=True)
            loss.value.backward()
            for network, player in owners.items():
                for key, parameter in run.networks[network].named_parameters():
                    has = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
                    assert player == loss.player or not has, f"{loss.player} reaches {network}.{key}"
                    alive[f"{network}.{key}"] |= has
            run.optimisers[loss.player].step()
            assert {owners[key] for key in owners if changed(before[key], run.networks[key])} <= {loss.player}
            assert all(value.ndim == 0 for value in loss.parts.values())
            seen.append(loss.player)
    assert seen == list(run.method.players) * 3
    assert [key for key, has in alive.items() if not has] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sp_i2i", "unsb", "cut", "cyclegan", "stegogan", "pix2pix"])
def test_a_method_with_a_critic_finds_what_separates_the_sensors(name, tmp_path):
    """Sensors that differ by 80 DN: a hundred small steps find them to 20, with the method's own weights."""
    blocks = np.random.default_rng(1).integers(20, 120, (2, 3, 24, 20), np.uint8)
    source, other = np.kron(blocks, np.ones((1, 1, 4, 4), np.uint8))
    target = (source if METHODS[name].paired else other) + 80
    paths = {"source": write(tmp_path / "a.tif", source), "target": write(tmp_path / "b.tif", target)}
    settings = SETTINGS[name] | {"critic_width": 8}
    made = describe_bands(make_recipe(
        {"name": "model", "method": name, "settings": settings, "optimiser": {"lr": 2e-3, "ema": 0.95},
         "data": {side: {"paths": [path]} for side, path in paths.items()} | {"window_px": 16, "batch": 4},
         "network": {"name": "resnet", "sizes": {"width": 8, "blocks": 1, "levels": 1, "embedding": 8}},
         "budget": {"steps": 100, "log_every": 50, "checkpoint_every": 100, "preview_every": 100}}, {}, "test"))
    package = export_run(train(made, tmp_path / "run", device="cpu"), tmp_path / "model")
    with rasterio.open(translate_raster(paths["source"], tmp_path / "out.tif", package,
                                        compute=Compute(device="cpu"))) as data:
        shift = (data.read().astype(float) - source).mean((1, 2))
    assert (np.abs(shift - 80) < 20).all(), shift


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERAL)
def test_what_was_trained_verifies_and_runs_tiled_as_whole(recipe, name, tmp_path):
    made = recipe(name)
    package = export_run(train(made, tmp_path / "run", device="cpu"), tmp_path / "model")
    assert package.verify() <= 1e-4
    stochastic = package.manifest.table.stochastic or (made.network.sizes.get("style", 256) and not METHODS[name].sizes)
    assert package.stochastic == bool(stochastic)
    means, deviations = [], []
    for tile in (32, 4096):
        deviation = tmp_path / f"std-{tile}.tif" if stochastic else None
        path = translate_raster(str(tmp_path / "a.tif"), tmp_path / f"{tile}.tif", package,
                                Options(tile=tile, samples=2), compute=Compute(device="cpu"), uncertainty=deviation)
        for each, found in ((path, means), *([(deviation, deviations)] if stochastic else [])):
            with rasterio.open(each) as data:
                found.append(data.read().astype(float))
    assert np.abs(means[0] - means[1]).max() <= 1
    if stochastic:
        assert np.abs(deviations[0] - deviations[1]).max() <= 1e-3 and deviations[0].max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERAL)
def test_a_resumed_run_ends_in_the_same_weights(recipe, name, tmp_path):
    made = recipe(name, steps=12)
    whole = train(made, tmp_path / "whole", device="cpu")

    class Stop(Exception):
        pass

    def stop(step, total, figures):
        raise Stop

    with pytest.raises(Stop):
        train(made, tmp_path / "cut", device="cpu", report=stop)
    resumed = train(made, tmp_path / "cut", device="cpu", resume=True)
    for key, network in whole.networks.items():
        assert not changed(state(network), resumed.networks[key]), key
    for key in whole.networks:
        if key.startswith("pool"):
            assert all(map(torch.equal, whole.networks[key].images, resumed.networks[key].images))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GENERAL if METHODS[name].paired])
def test_paired_methods_learn_a_negative(recipe, name, tmp_path):
    """To below a quarter of what the identity is off. Half-way from an image to its negative a bridge knows neither, so
    that it must see the source."""
    bridge = {"head": "clean", "sees_source": True}
    made = recipe(name, steps=400, **(bridge if name != "pix2pix" else {"lambda_gan": 0.0}))
    made = made.model_copy(update={"optimiser": made.optimiser.model_copy(update={"lr": 1e-2, "ema": 0.9})})
    package = export_run(train(made, tmp_path / "run", device="cpu"), tmp_path / "model")
    path = translate_raster(str(tmp_path / "a.tif"), tmp_path / "o.tif", package, compute=Compute(device="cpu"))
    with rasterio.open(path) as made, rasterio.open(tmp_path / "a.tif") as source:
        off = np.abs(made.read().astype(float) - (255 - source.read().astype(float))).mean()
        identity = np.abs(255 - 2 * source.read().astype(float)).mean()
    assert off < identity / 4


def test_bands_that_cannot_be_mixed_are_refused(recipe):
    held = {name: {"lambda_identity": 0.5} for name in ("cyclegan", "stegogan")}
    for name in GENERAL:
        made = recipe(name, **held.get(name, {}))
        fewer = made.model_copy(update={"bands": made.bands.model_copy(update={"target": made.bands.target[:2]})})
        if name in ("pix2pix", "sr3", "flow", "supresdiffgan"):  # the source is only seen
            start_run(fewer, *connect("cpu"))
            continue
        with pytest.raises(RecipeError, match="as many target bands as source bands"):
            start_run(fewer, *connect("cpu"))


@pytest.mark.parametrize("name", ["cyclegan", "stegogan"])
def test_cycles_lead_to_other_bands_and_back(recipe, name, tmp_path):
    with rasterio.open(tmp_path / "b.tif") as data:
        two = data.read([1, 2])
    write(tmp_path / "b.tif", two)
    package = export_run(train(recipe(name, steps=2), tmp_path / "run", device="cpu"), tmp_path / "model")
    out = translate_raster(str(tmp_path / "a.tif"), tmp_path / "out.tif", package, compute=Compute(device="cpu"))
    with rasterio.open(out) as data:
        assert (package.manifest.network.sizes["bands_out"], data.count) == (2, 2)


def test_rasters_of_classes_are_not_trained_on(recipe):
    made = recipe("cut")
    path = made.data.target.paths[0]
    with rasterio.open(path) as data:
        pixels, profile = data.read(1), data.profile
    with rasterio.open(path, "w", **profile | {"count": 1, "photometric": "palette"}) as out:
        out.write(pixels, 1)
        out.write_colormap(1, {k: (k, k, 0, 255) for k in range(256)})
    with pytest.raises(RecipeError, match="classes"):
        open_domains(made)


def test_rasters_with_other_bands_than_the_recipe_says_are_refused(recipe):
    made = recipe("cut")
    for side in ("source", "target"):
        fewer = {side: tuple(band.model_copy(update={"name": f"another {k}"})
                             for k, band in enumerate(getattr(made.bands, side)[:2]))}
        with pytest.raises(RecipeError, match=f"has 3 bands, and the recipe names 2 .*data.{side}.bands"):
            open_domains(made.model_copy(update={"bands": made.bands.model_copy(update=fewer)}))


def test_train_step_reports_every_part(recipe):
    made = recipe("cut")
    fabric, processes = connect("cpu")
    parts = train_step(start_run(made, fabric, processes), open_domains(made).batch(made, 0), fabric)
    assert set(parts) == {"critic", "adversarial", "contrast"}
