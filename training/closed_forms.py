"""Closed forms: translations that are solved for and not trained, in one or two passes over rasters of any size.

    linear      least squares on the bands of a pixel, its neighbourhood, their squares and means; paired
    moments     mean and standard deviation of each band
    transport   optimal transport between Gaussians of the same mean and covariance (Monge-Kantorovich)
    histogram   a monotone curve per band, or several rounds of them along rotated axes of colour

`local_fit` has a fifth, whose coefficients change over the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import nn

from ..core.errors import RecipeError
from ..core.models.normalisers import MeanStdNormaliser
from ..core.networks.closed_form import Curves, CurvesSizes, LinearFilter, LinearSizes
from ..core.raster.rows import SeekableRaster
from ..core.reproject.frame import Coordinates
from .holdout import split
from .sweeps import MeanCovariance, Sums, mean_covariance, paired_sums, valid_pixels

RIDGE = 1e-4
SHARE, _GAP_PX = 0.3, 16
"""Of the rows that are held out to choose terms by, and how far they are from those that are fitted to."""
_CANDIDATES: tuple[dict[str, int], ...] = (
    {}, {"squares": 1}, {"neighbourhood": 3}, {"neighbourhood": 3, "squares": 1}, {"neighbourhood": 5},
    {"neighbourhood": 5, "squares": 1})
_MEANS = {"mean_1": 3, "mean_2": 7, "mean_3": 15, "mean_4": 31}
_BINS, _SAMPLE, _WIDEST = 1 << 16, 1 << 18, 31


@dataclass(frozen=True)
class Fit:
    """A solved translation: how numbers come in and go out, and what is between."""

    normalise_in: MeanStdNormaliser
    normalise_out: MeanStdNormaliser
    network: nn.Module
    """What is between, in standard deviations from the mean."""
    table: tuple[tuple[str, float], ...] = ()
    """Candidates with their RMSE on rows that were held out, in standard deviations of the target; the first is the
    one that was chosen."""
    coordinates: Coordinates | None = None
    """What the network sees of each pixel's place."""


@dataclass(frozen=True)
class Sides:
    """The rasters of both sides and the names of their bands."""

    sources: Sequence[SeekableRaster]
    targets: Sequence[SeekableRaster]
    source_names: Sequence[str]
    target_names: Sequence[str]

    def colours(self) -> tuple[MeanCovariance, MeanCovariance]:
        """Of either side."""
        return mean_covariance(self.sources, self.source_names), mean_covariance(self.targets, self.target_names)

    def split(self, validation: float | str | tuple[str, ...]) -> tuple["Sides", "Sides"]:
        """Paired sides in two parts, of which the second is held out; see `holdout.split`."""
        parts = split(self.sources, self.targets, validation, _GAP_PX, _GAP_PX, paired=True)
        fitted, held = (replace(self, sources=sources, targets=targets) for sources, targets in parts)
        return fitted, held

    def check_alike(self, kind: str) -> None:
        """Refuses sides with different numbers of bands, which `kind` maps one by one.

        Raises:
            RecipeError: where they differ.
        """
        if len(self.source_names) != len(self.target_names):
            raise RecipeError(f"fit {kind} needs as many target bands as source bands (got {len(self.source_names)} "
                              f"and {len(self.target_names)}): choose them with --set data.source.bands=[...].")


def identity(bands: int) -> Fit:
    """Physical values as they are."""
    plain = MeanStdNormaliser(mean=(0.0,) * bands, std=(1.0,) * bands)
    return Fit(plain, plain, _linear(LinearSizes(bands_in=bands, bands_out=bands), np.zeros(bands), np.eye(bands)))


def fit_moments(sides: Sides) -> Fit:
    """Each band gets the mean and the standard deviation of the target's."""
    sides.check_alike("moments")
    bands = len(sides.source_names)
    network = _linear(LinearSizes(bands_in=bands, bands_out=bands), np.zeros(bands), np.eye(bands))
    source, target = sides.colours()
    return Fit(normaliser(source), normaliser(target), network)


def fit_transport(sides: Sides) -> Fit:
    """The linear map T with T A T' = B that moves colours least (Monge-Kantorovich), A and B being the covariances.

    T = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 (Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear colour
    mapping").

    Raises:
        RecipeError: where the bands of a side are linearly dependent.
    """
    sides.check_alike("transport")
    source, target = sides.colours()
    for found, rasters in ((source, sides.sources), (target, sides.targets)):
        if np.linalg.eigvalsh(found.covariance / np.outer(found.std, found.std))[0] < 1e-9:
            raise RecipeError(f"The bands of {rasters[0].path} are linearly dependent, so that their covariance is "
                              "singular: leave one out with data.source.bands and data.target.bands, or use fit "
                              "moments.")
    root = _root(source.covariance)
    back = np.linalg.inv(root)
    moved = back @ _root(root @ target.covariance @ root) @ back
    network = _linear(LinearSizes(bands_in=len(moved), bands_out=len(moved)), np.zeros(len(moved)),
                      moved * source.std / target.std[:, None])
    return Fit(normaliser(source), normaliser(target), network)


def fit_histogram(sides: Sides, rounds: int = 1, knots: int = 256, seed: int = 0) -> Fit:
    """Curves that give each band the distribution of the target's; with `rounds` the joint distribution, too.

    The iteration is that of Pitie et al. 2007, "Automated colour grading using colour distribution transfer": colours
    are rotated, matched along each axis, and rotated back. The first round is along the bands themselves.

    Args:
        rounds: 1 takes quantiles of all pixels; more take a sample of at most 262,144 of either side.
        knots: of each curve.
        seed: of the rotations.
    """
    sides.check_alike("histogram")
    source, target = sides.colours()
    network = Curves(CurvesSizes(bands_in=len(source.mean), bands_out=len(source.mean), rounds=rounds, knots=knots))
    levels = np.linspace(0, 1, knots)
    if rounds == 1:
        _set_curves(network, 0, np.eye(len(source.mean)), _quantiles(sides.sources, levels, source),
                    _quantiles(sides.targets, levels, target))
        return Fit(normaliser(source), normaliser(target), network)
    ours, theirs = _sample(sides.sources, source), _sample(sides.targets, target)
    generator = np.random.default_rng(seed)
    for k in range(rounds):
        turn = np.eye(len(ours)) if k == 0 else _rotation(len(ours), generator)
        x, y = (np.quantile(turn @ colours, levels, axis=1).T for colours in (ours, theirs))
        _set_curves(network, k, turn, x, y)
        with torch.inference_mode():
            single = Curves(CurvesSizes(bands_in=len(ours), bands_out=len(ours), knots=knots))
            single.load_state_dict({name: value[k : k + 1] for name, value in network.state_dict().items()})
            ours = single.double()(torch.from_numpy(ours)[None, :, :, None], None, None)[0, :, :, 0].numpy()
    return Fit(normaliser(source), normaliser(target), network)


def fit_linear(sides: Sides, sizes: dict[str, int] | None = None, scale: int = 1,
               choice: tuple[Sides, Sides] | None = None) -> Fit:
    """Least squares for the target's bands.

    Args:
        sizes: of a `LinearFilter`, without bands; None: those of several that do best on what is held out.
        scale: pixels of the target for each of the source along an axis.
        choice: what candidates are fitted to, and what they are judged on; None: parts of the rows of `sides`.

    Raises:
        RecipeError: for too few pixels.
    """
    source, target = sides.colours()
    bands = {"bands_in": len(source.mean), "bands_out": len(target.mean), "scale": scale}
    table: tuple[tuple[str, float], ...] = ()
    if sizes is None:
        narrowest = min(min(raster.grid.height, raster.grid.width) for raster in sides.sources) // scale
        sizes, table = _chosen(choice or sides.split(SHARE), source, target, bands,
                               with_means=narrowest >= 4 * _WIDEST)
    found = LinearSizes(**bands, **sizes)
    solution = solve_linear(sides, found, source, target)
    return Fit(normaliser(source), normaliser(target), _linear(found, solution[0], solution[1:].T), table)


def solve_linear(sides: Sides, sizes: LinearSizes, source: MeanCovariance, target: MeanCovariance) -> np.ndarray:
    """The constant and the coefficients (1 + terms, outputs) from the source's standardised values to the target's.

    Args:
        source, target: the mean and the deviation that values are standardised by.

    Raises:
        RecipeError: for too few pixels.
    """
    return _solved(paired_sums(sides.sources, sides.targets, sizes, source, target), _centre(sizes), sides)


def _chosen(choice: tuple[Sides, Sides], source: MeanCovariance, target: MeanCovariance, bands: dict[str, int],
            with_means: bool) -> tuple[dict[str, int], tuple[tuple[str, float], ...]]:
    """The best candidate on rows that were held out, and all with their errors, best first."""
    means = _MEANS if with_means else {}
    widest = LinearSizes(**bands, neighbourhood=5, squares=1, **means)
    fitted, held = (paired_sums(sides.sources, sides.targets, widest, source, target) for sides in choice)
    place = {term: k + 1 for k, term in enumerate(widest.terms)}
    found = []
    for candidate in (*_CANDIDATES, *({**each, **means} for each in _CANDIDATES[:2] if means)):
        sizes = LinearSizes(**bands, **candidate)
        columns = np.array([0, *(place[term] for term in sizes.terms)])
        solution = _solved(fitted.part(columns), _centre(sizes), choice[0])
        error = float(np.sqrt(held.part(columns).error(solution).mean())) if held.count else np.inf
        found.append((error, len(sizes.terms), describe(sizes), candidate))
    found.sort(key=lambda each: each[:2])
    return found[0][3], tuple((name, error) for error, _, name, _ in found)


def describe(sizes: LinearSizes) -> str:
    """The terms of a linear fit in a few words."""
    side = sizes.neighbourhood
    parts = ["bands" if side == 1 else f"{side} x {side} neighbourhood"]
    parts += ["squares and products"] if sizes.squares else []
    parts += [f"means over {', '.join(map(str, sizes.means))}"] if sizes.means else []
    return ", ".join(parts)


def _centre(sizes: LinearSizes) -> np.ndarray:
    """Columns of the constant and of the pixel itself."""
    return np.array([0, *(k + 1 for k, term in enumerate(sizes.terms) if term[0] == "pixel" and term[2:] == (0, 0))])


def _solved(sums: Sums, centre: np.ndarray, sides: Sides) -> np.ndarray:
    """Coefficients (terms, outputs): least squares on the pixel itself, then ridge regression of what that leaves on
    all terms, so that the ridge does not shrink an affine map.

    Raises:
        RecipeError: for fewer pixels than terms.
    """
    if sums.count < 2 * len(sums.xx):
        raise RecipeError(f"{sides.targets[0].path} and its source share {sums.count} usable pixels for "
                          f"{len(sums.xx)} terms: choose fewer terms, for example --neighbourhood 1, or larger "
                          "rasters.")
    solution = np.zeros_like(sums.xy)
    solution[centre] = _ridge(sums.part(centre), 1e-12)
    left = sums.xy - sums.xx @ solution
    return solution + _ridge(Sums(sums.xx, left, sums.yy), RIDGE)


def _ridge(sums: Sums, ridge: float) -> np.ndarray:
    """Solves (X'X + ridge n I) w = X'y; the constant, which comes first, is not shrunk."""
    weight = np.full(len(sums.xx), ridge * sums.count)
    weight[0] = 0
    return np.linalg.solve(sums.xx + np.diag(weight), sums.xy)


def _linear(sizes: LinearSizes, constant: np.ndarray, coefficients: np.ndarray) -> LinearFilter:
    network = LinearFilter(sizes)
    network.load_solution(torch.from_numpy(constant), torch.from_numpy(np.ascontiguousarray(coefficients)))
    return network


def normaliser(found: MeanCovariance) -> MeanStdNormaliser:
    """Physical values to standard deviations from the mean."""
    return MeanStdNormaliser(mean=tuple(map(float, found.mean)), std=tuple(map(float, found.std)))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The square root of a symmetric positive definite matrix."""
    found, axes = np.linalg.eigh(matrix)
    return (axes * np.sqrt(np.maximum(found, 0))) @ axes.T


def _quantiles(rasters: Sequence[SeekableRaster], levels: np.ndarray, found: MeanCovariance) -> np.ndarray:
    """Quantiles (C,K) of all valid pixels, standardised, to 1/65536 of the range of each band's values."""
    bands = len(found.mean)
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    for pixels in chain.from_iterable(map(valid_pixels, rasters)):
        if pixels.size:
            low, high = np.minimum(low, pixels.min(1)), np.maximum(high, pixels.max(1))
    counts = np.zeros((bands, _BINS))
    for pixels in chain.from_iterable(map(valid_pixels, rasters)):
        bins = np.minimum((pixels - low[:, None]) * (_BINS / (high - low))[:, None], _BINS - 1).astype(np.int64)
        counts += [np.bincount(each, minlength=_BINS) for each in bins]
    made = np.empty((bands, len(levels)))
    for k in range(bands):
        reached = np.concatenate([[0], np.cumsum(counts[k])]) / counts[k].sum()
        kept = np.concatenate([[True], np.diff(reached) > 0])
        kept[:-1] |= kept[1:]  # a step is kept from its foot
        made[k] = np.interp(levels, reached[kept], np.linspace(low[k], high[k], _BINS + 1)[kept])
    return (made - found.mean[:, None]) / found.std[:, None]


def _sample(rasters: Sequence[SeekableRaster], found: MeanCovariance) -> np.ndarray:
    """Standardised pixels (C,n) from all over the rasters, every so-manieth of each."""
    every = -(-found.count // _SAMPLE)
    parts, before = [], 0
    for raster in rasters:
        for pixels in valid_pixels(raster):
            parts.append(pixels[:, -before % every :: every])
            before += pixels.shape[1]
    return (np.concatenate(parts, 1) - found.mean[:, None]) / found.std[:, None]


def _set_curves(network: Curves, k: int, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Puts one round of curves with knots (C,K) into the network; equal x become one knot with the mean of their y."""
    with torch.no_grad():
        network.level["rotation"][k] = torch.from_numpy(turn)
        for band, (a, b) in enumerate(zip(x.astype(np.float32), y)):
            places, which = np.unique(a, return_inverse=True)
            heights = np.bincount(which, b) / np.bincount(which)
            room = len(a) - len(places)  # knots beyond the last, where a curve goes on with slope 1
            beyond = np.arange(1, room + 1) * 1.0
            network.level["x"][k, band] = torch.from_numpy(np.concatenate([places, places[-1] + beyond]))
            network.level["y"][k, band] = torch.from_numpy(np.concatenate([heights, heights[-1] + beyond]))


def _rotation(bands: int, generator: np.random.Generator) -> np.ndarray:
    """A random rotation of colours."""
    turn, upper = np.linalg.qr(generator.normal(size=(bands, bands)))
    return turn * np.sign(np.diag(upper))
