"""Training may go on from a model, whose bands, network and weights it takes."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import ModelError, RecipeError
from geoi2i.core.models.package import ModelPackage
from geoi2i.training.export import export_run
from geoi2i.training.finetune import recipe_from
from geoi2i.training.loop import train
from geoi2i.training.recipe import describe_bands, make_recipe

pytestmark = pytest.mark.slow


def write(path, pixels):
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=64, width=64, dtype="uint8",
                       crs="EPSG:32631", transform=Affine(30, 0, 500_000, 0, -30, 4_500_000)) as out:
        out.write(pixels)
    return str(path)


def recipe_of(tmp_path, method="pix2pix", bands=3, seed=0, **more):
    pixels = np.random.default_rng(seed).integers(20, 200, (bands, 64, 64), dtype=np.uint8)
    return make_recipe({"name": "m", "method": method, "data": {
        "source": {"paths": [write(tmp_path / f"a{seed}.tif", pixels)]},
        "target": {"paths": [write(tmp_path / f"b{seed}.tif", pixels // 2 + 30)]}, "window_px": 16, "batch": 2},
        "network": {"sizes": {"width": 4, "blocks": 1, "embedding": 8}}, "optimiser": {"lr": 1e-3},
        "settings": {"lambda_gan": 0} if method == "pix2pix" else {},
        "budget": {"steps": 3, "preview_every": 3}, **more}, {}, "test")


@pytest.fixture
def package(tmp_path):
    run = train(describe_bands(recipe_of(tmp_path)), tmp_path / "first", device="cpu")
    return ModelPackage.load(export_run(run, tmp_path / "first" / "m").folder)


def test_it_begins_with_the_weights_and_the_bands_of_the_model(package, tmp_path):
    recipe = recipe_of(tmp_path, seed=1, network={"name": "unet"}, optimiser={"lr": 1e-12})  # whose network is not used
    resolved = describe_bands(recipe_from(recipe, package))
    assert resolved.bands.source == package.manifest.bands_in and resolved.network.name == "resnet"
    run = train(resolved, tmp_path / "second", base=package, device="cpu")
    for name, value in package.network().state_dict().items():
        assert torch.allclose(run.ema.state_dict()[name], value, atol=1e-9), name
    again = train(resolved.model_copy(update={"budget": resolved.budget.model_copy(update={"steps": 5})}),
                  tmp_path / "second", base=package, resume=True, device="cpu")
    assert again.step == 5


def test_models_and_data_that_do_not_fit_are_refused(package, tmp_path):
    other = recipe_of(tmp_path, method="sr3", seed=2)
    with pytest.raises(RecipeError, match=r"does not fit method sr3: choose the method that made it \(pix2pix\)"):
        train(describe_bands(recipe_from(other, package)), tmp_path / "x", base=package, device="cpu")
    two = recipe_of(tmp_path, bands=2, seed=3)
    with pytest.raises((RecipeError, ModelError), match="has 2 bands"):
        train(describe_bands(recipe_from(two, package)), tmp_path / "y", base=package, device="cpu")
    with pytest.raises(RecipeError, match=r"enlarges 1 times, and data\.scale is 2"):
        recipe_from(recipe_of(tmp_path, seed=4, data={"scale": 2}), package)
