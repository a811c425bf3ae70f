"""Training that begins at a model (`geoi2i train --from MODEL`): its bands, normalisers, network and weights."""

from ..core.errors import RecipeError
from ..core.models.package import ModelPackage
from .recipe import Recipe
from .state import Run


def recipe_from(recipe: Recipe, package: ModelPackage) -> Recipe:
    """The recipe with the bands, the normalisers, the scale and the network of a model.

    Raises:
        RecipeError: for a model that is not one network on the pixels of its bands, or of another scale.
    """
    manifest = package.manifest
    if manifest.network is None or manifest.codec or manifest.coordinates or package.before:
        raise RecipeError(f"Model {manifest.name} is not one network on pixels alone, and no other is trained on: "
                          "choose another for --from.")
    if recipe.data.scale not in (1, manifest.scale):
        raise RecipeError(f"Model {manifest.name} enlarges {manifest.scale} times, and data.scale is "
                          f"{recipe.data.scale}: leave it out.")
    sizes = {name: size for name, size in manifest.network.sizes.items() if name not in ("bands_in", "bands_out")}
    bands = recipe.bands.model_copy(update={
        "source": manifest.bands_in, "target": manifest.bands_out, "normalise_in": manifest.normalise_in,
        "normalise_out": manifest.normalise_out, "dtype": manifest.dtype})
    network = recipe.network.model_copy(update={"name": manifest.network.name, "sizes": sizes, "start": "identity"})
    return recipe.model_copy(update={"bands": bands, "network": network,
                                     "data": recipe.data.model_copy(update={"scale": manifest.scale})})


def begin_from(run: Run, package: ModelPackage) -> None:
    """Puts the generator, and its running mean, where a model is.

    Raises:
        RecipeError: where the recipe's method needs another network.
    """
    weights, generator = package.network().state_dict(), run.networks["generator"]  # type: ignore[union-attr]
    shapes = {name: value.shape for name, value in generator.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        made_by = package.manifest.recipe.get("method", "another")
        raise RecipeError(f"The network of model {package.manifest.name} does not fit method {run.recipe.method}: "
                          f"choose the method that made it ({made_by}).")
    generator.load_state_dict(weights)
    run.ema.load_state_dict(weights)
