"""Where a training begins: at the closed form that its data give (`network.start`).

Paired methods of one step begin with their affine path at least squares and their head at zero, so that the first image
is the closed form's. All others see the source through an affine map across its bands: least squares where it is
paired, else optimal transport; their networks begin as the identity behind it, the way back of a cycle too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import RecipeError
from ..core.inference.steps import generator_table
from ..core.models.normalisers import BandAffine, MatrixNormaliser
from ..core.networks.closed_form import LinearFilter, LinearSizes
from .closed_forms import Fit, Sides, fit_linear, fit_moments, fit_transport, solve_linear
from .methods._shared import Method
from .recipe import Recipe
from .state import Run, gives_images
from .sweeps import MeanCovariance


@dataclass(frozen=True)
class Start:
    """A closed form as a training begins with it."""

    front: MatrixNormaliser | None = None
    """From physical values of the source to what networks see; None: the recipe's normaliser."""
    affine: tuple[Tensor, Tensor] | None = None
    """Constant (C',) and coefficients (C',terms) of the generator's affine path; None: the identity."""


def solve_start(recipe: Recipe, method: Method, networks: dict[str, nn.Module], sides: Sides,
                paired: bool) -> Start | None:
    """The closed form that a training begins with; None: the identity, as the recipe says or for want of another.

    Raises:
        RecipeError: where the recipe asks for one that cannot be had.
    """
    wanted = recipe.network.start
    if wanted == "identity":
        return None
    try:
        return _solved(recipe, method, networks, sides, paired)
    except RecipeError as error:
        if wanted is None:
            return None
        raise RecipeError('network.start = "closed_form" cannot be had:', [str(error)], "Or leave it out.") from error


def begin(run: Run, start: Start) -> None:
    """Puts a run where it begins: heads of images at zero, and the generator's affine path at the closed form."""
    for network in run.networks.values() if gives_images(run.recipe, run.method) else ():
        if isinstance(head := getattr(network, "head", None), nn.Conv2d) and hasattr(network, "level"):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
    level: Any = run.networks["generator"].level
    if start.affine and isinstance(level, LinearFilter):
        level.load_solution(*start.affine)
    elif start.affine:
        with torch.no_grad():
            level.bias.copy_(start.affine[0])
            level.weight.copy_(start.affine[1][:, :, None, None])
    run.front = start.front
    run.ema.load_state_dict(run.networks["generator"].state_dict())


def _solved(recipe: Recipe, method: Method, networks: dict[str, nn.Module], sides: Sides, paired: bool) -> Start:
    inward, outward = recipe.bands.normalise_in, recipe.bands.normalise_out
    affine = [each.resolve(None) for each in (inward, outward) if each and not each.percentiles]
    scales = [each for each in affine if isinstance(each, BandAffine)]
    if len(scales) < 2 or "codec" in networks:
        raise RecipeError("A closed form starts networks that work on pixels, with normalisers of kind range or "
                          "mean_std: give such.")
    level = getattr(networks["generator"], "level", None)
    if paired and method.steps() == generator_table() and isinstance(level, LinearFilter | nn.Conv2d):
        sizes = level.sizes if isinstance(level, LinearFilter) else LinearSizes(
            bands_in=level.in_channels, bands_out=level.out_channels)
        solution = solve_linear(sides, sizes, *map(_as_statistics, scales))
        return Start(None, (torch.from_numpy(solution[0]), torch.from_numpy(np.ascontiguousarray(solution[1:].T))))
    sides.check_alike("linear" if paired else "transport")
    return Start(_front(fit_linear(sides, {}) if paired else _transport(sides), scales[1]))


def _transport(sides: Sides) -> Fit:
    try:
        return fit_transport(sides)
    except RecipeError:  # bands that depend on each other
        return fit_moments(sides)


def _as_statistics(affine: BandAffine) -> MeanCovariance:
    """The mean and the deviation that a normaliser maps to 0 and 1."""
    gain, bias = np.array(affine.gain), np.array(affine.bias)
    return MeanCovariance(1, -bias / gain, np.diag(1 / gain**2))


def _front(fit: Fit, outward: BandAffine) -> MatrixNormaliser:
    """A fit of pixels alone, from physical values to the network's range of the target."""
    weight, constant = (value.detach().double().numpy() for value in (fit.network.level.weight, fit.network.level.bias))
    mean, std, mean_out, std_out = (np.array(v) for v in (fit.normalise_in.mean, fit.normalise_in.std,
                                                          fit.normalise_out.mean, fit.normalise_out.std))
    gain = np.array(outward.gain)[:, None] * std_out[:, None] * weight[:, :, 0, 0] / std
    bias = (constant * std_out + mean_out) * outward.gain + outward.bias - gain @ mean
    return MatrixNormaliser(matrix=tuple(map(tuple, gain.tolist())), bias=tuple(bias.tolist()))
