"""Judging a network on windows that are held out, beside the closed forms that the same data give in seconds.

Peak signal-to-noise ratio and structural similarity are torchmetrics'; bands are scaled to [0,1] by the range that the
recipe gives for them. Unpaired sides are compared in the distribution of their colours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from ..core.errors import RecipeError
from ..core.models.normalisers import BandAffine, RangeNormaliser
from ..core.pipeline.radiometry import forward, inverse
from .closed_forms import Fit, Sides, fit_histogram, fit_linear, fit_moments, fit_transport, identity
from .data import Domains, seed_of
from .preview import colour_distance
from .recipe import Recipe

COUNT, IDENTITY = 32, "identity"
"""Windows that are judged on."""
_MARGIN_DB, _MARGIN = 0.05, 0.01
"""By which one must be better than another to count as such."""


Figures = dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """A network beside closed forms, judged on the same windows."""

    where: str
    """What the windows are, in a few words."""
    paired: bool
    closed_forms: dict[str, Figures]
    """By name, the best first."""
    network: Figures | None = None
    """None while it is in training."""

    def table(self) -> list[str]:
        """A line for each way from source to target."""
        rows = {**({"the network": self.network} if self.network else {}), **self.closed_forms}
        return [f"On {self.where}:", *(f"  {self.shown(figures):<28}{name}" for name, figures in rows.items())]

    def statement(self) -> str:
        """Whether the network beats the best closed form, in one sentence."""
        if not self.network or not self.closed_forms:
            return ""
        name, best = next(iter(self.closed_forms.items()))
        mine, theirs = error_of(self.network, self.paired), error_of(best, self.paired)
        margin = _MARGIN_DB if self.paired else _MARGIN * abs(theirs)
        how = "beats" if mine < theirs - margin else "equals" if mine <= theirs + margin else "does not beat"
        said = (f"The network {how} the best closed form on {self.where}: {self.shown(self.network)} against "
                f"{self.shown(best)} ({name}).")
        kind = name.split(":")[0].split(",")[0]
        simpler = "" if how == "beats" or name == IDENTITY else (
            f" geoi2i fit {kind} gives as much in seconds." if how == "equals" else
            f" Use geoi2i fit {kind} instead, or train with other settings.")
        return said + simpler

    def as_figures(self) -> Figures:
        """All figures of closed forms, for a log."""
        return {f"{figure} of {name}": value for name, found in self.closed_forms.items()
                for figure, value in found.items()}

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return {"judged_on": self.where, "paired": self.paired, "network": self.network,
                "closed_forms": self.closed_forms,
                "statement": self.statement()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Comparison":
        """Undoes `as_json`."""
        return cls(found["judged_on"], found["paired"], found["closed_forms"], found["network"])

    @property
    def error(self) -> float:
        """Of the network: what the best has least of."""
        return error_of(self.network or {}, self.paired)

    def shown(self, figures: Figures) -> str:
        """Figures in a few words."""
        if self.paired:
            return f"PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}"
        return f"colour distance {figures['colour_distance']:.4f}"


def error_of(figures: Figures, paired: bool) -> float:
    """What the best has least of."""
    return -figures["psnr"] if paired else figures["colour_distance"]


@dataclass(frozen=True)
class Judge:
    """Windows to judge on, the same at every look. Make one with `judge_of`."""

    domains: Domains
    """They are drawn from."""
    source: Tensor
    target: Tensor
    """(N,C,h,w), in the network's ranges."""
    picks: np.ndarray
    to_physical: BandAffine
    """From physical values of the target to the network's range."""
    to_unit: BandAffine
    """From physical values of the target to [0,1]."""
    where: str
    """What they are, in a few words."""

    @property
    def paired(self) -> bool:
        return self.domains.paired

    def figures(self, made: Tensor) -> Figures:
        """What an image (N,C,h,w) in the network's range, made of the source, is worth.

        `psnr` in dB and `ssim` where source and target are paired, of pixels a quarter of a window from its edge, so
        that what a network needs around a pixel is there; and `colour_distance`, the sliced Wasserstein distance of
        colours in the network's range.
        """
        found = {"colour_distance": colour_distance(made, self.target)}
        if not self.paired:
            return found
        # Imported here: it takes seconds.
        from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

        edge = self.target.shape[-1] // 4
        ours, theirs = (self._unit(images)[:, :, edge:-edge, edge:-edge] for images in (made, self.target))
        return {"psnr": float(peak_signal_noise_ratio(ours, theirs, data_range=1.0)),
                "ssim": float(structural_similarity_index_measure(ours, theirs, data_range=1.0)), **found}

    def error(self, figures: Figures) -> float:
        """What the best has least of."""
        return error_of(figures, self.paired)

    def translated(self, fit: Fit) -> Tensor:
        """What a closed form makes of the source's windows, in the network's range."""
        windows = self.domains.source.normalised_by(fit.normalise_in).windows(self.picks)
        side = windows.shape[-1]
        beyond = -side % fit.network.stride
        with torch.inference_mode():
            made = fit.network(F.pad(windows, (0, beyond, 0, beyond), "replicate"), torch.zeros(len(windows)), None)
        made = made[:, :, :side, :side]
        physical = _each(inverse, fit.normalise_out.resolve(None), made)
        return _each(forward, self.to_physical, physical).to(self.target.device)

    def _unit(self, images: Tensor) -> Tensor:
        return _each(forward, self.to_unit, _each(inverse, self.to_physical, images.float()))


def judge_of(domains: Domains, recipe: Recipe, fabric: Fabric) -> Judge:
    """Windows that are held out, or of the training's own where nothing is."""
    mine = domains.held_out or domains
    generator = torch.Generator().manual_seed(seed_of(recipe, -1))
    picks = _aligned(mine, recipe, generator)
    zones = mine.source.candidates.zone[picks] if recipe.data.latitude_zones and not mine.paired else None
    others = picks if mine.paired else mine.target.pick(COUNT, generator, zones)
    specs, outward = recipe.bands.target, recipe.bands.normalise_out
    plain = BandAffine((1.0,) * len(specs), (0.0,) * len(specs))
    span = RangeNormaliser(minimum=tuple(s.minimum for s in specs), maximum=tuple(s.maximum for s in specs)).resolve(
        None)
    source, target = (fabric.to_device(side.windows(chosen)) for side, chosen in (
        (mine.source, picks), (mine.target, others)))
    return Judge(
        mine, source, target, picks, outward.resolve(None) or plain,  # type: ignore[union-attr]
        BandAffine(tuple(gain / 2 for gain in span.gain), tuple((bias + 1) / 2 for bias in span.bias)),
        f"{COUNT} windows of {'held-out data' if domains.held_out else 'the training data (data.validation = 0)'}")


def _aligned(domains: Domains, recipe: Recipe, generator: torch.Generator) -> np.ndarray:
    """Candidates that begin with a pixel of the source, where its pixels are larger than the target's."""
    scale = recipe.data.scale
    table = domains.source.candidates
    usable = (table.row * scale.denominator % scale.numerator == 0) & (
        table.col * scale.denominator % scale.numerator == 0)
    if not usable.any():
        return domains.source.pick(COUNT, generator)
    return np.flatnonzero(usable)[torch.randint(int(usable.sum()), (COUNT,), generator=generator).numpy()]


def compare(judge: Judge, fits: dict[str, Fit]) -> Comparison:
    """Closed forms judged, the best first."""
    found = {name: judge.figures(judge.translated(fit)) for name, fit in fits.items()}
    order = sorted(found, key=lambda name: judge.error(found[name]))
    return Comparison(judge.where, judge.paired, {name: found[name] for name in order})


def closed_forms(domains: Domains, recipe: Recipe, message: Callable[[str], None]) -> dict[str, Fit]:
    """What can be solved for on the same data, by name, of the kinds that fit to it."""
    sides = sides_of(domains, recipe)
    choice = (sides, sides_of(domains.held_out, recipe)) if domains.held_out else None
    scale = recipe.data.scale
    alike = len(recipe.bands.source) == len(recipe.bands.target)
    kinds: dict[str, Callable[[], Fit]] = {IDENTITY: partial(identity, len(recipe.bands.source))} if alike else {}
    if domains.paired and scale.denominator == 1:
        linear = partial(fit_linear, sides, scale=scale.numerator)
        kinds |= {"linear, bands alone": partial(linear, {}), "linear": partial(linear, choice=choice)}
    elif alike and not domains.paired:
        kinds |= {"moments": partial(fit_moments, sides), "transport": partial(fit_transport, sides),
                  "histogram": partial(fit_histogram, sides)}
    found = {}
    for name, solve in kinds.items():
        try:
            made = solve()
        except RecipeError as error:
            message(f"No closed form {name}: {error}")
            continue
        found[f"{name}: {made.table[0][0]}" if made.table else name] = made
    return found


def sides_of(domains: Domains, recipe: Recipe) -> Sides:
    """The rasters of both sides, as closed forms take them."""
    names = ([spec.name for spec in specs] for specs in (recipe.bands.source, recipe.bands.target))
    return Sides(domains.source.rasters, domains.target.rasters, *names)


def _each(change: Callable[[BandAffine, Tensor], Tensor], affine: BandAffine | None, images: Tensor) -> Tensor:
    """A per-band map on images (N,C,h,w)."""
    return images if affine is None else torch.stack([change(affine, image) for image in images])
