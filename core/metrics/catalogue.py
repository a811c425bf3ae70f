"""Every metric by the name that a user gives it: what it compares, which way is better, and how it is made."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from . import pansharpening, perceptual, pixel, window
from .agreement import clipped, edge_displacement
from .block import q2n
from .fsim import fsim
from .histogram import (
    FINE_BINS,
    chi_square,
    hellinger,
    histogram_counts,
    histogram_distance,
    jensen_shannon,
    total_variation,
    wasserstein_1,
)
from .measure import Measure, Undefined
from .niqe import NiqeParameters, load_niqe_parameters, niqe
from .seams import StepProfile
from .spectrum import HIGH, MID, above, energy_retention, power_spectra
from .weights import load_backbone

Kind = Literal["paired", "uncertainty", "sets", "alone", "pan"]
"""What a metric looks at: two images of one place; a reference and a prediction with its standard deviations; two
images or sets of images wherever they are; the prediction alone; a pansharpened image and what it was made of."""


@dataclass(frozen=True)
class Images:
    """What measures need to know of the images that they are made for."""

    bands: int
    low: float
    high: float
    """Values shown as black and as full, in the data's units."""
    unit: str = ""
    ratio: float = 1.0
    """Pixel size of the translation's source over the prediction's."""
    colours: tuple[int, int, int] | None = None
    """Which bands (from 0) are red, green and blue."""
    sensor: str | None = None
    weights: Path | None = None
    """Folder of the networks' weights."""


@dataclass(frozen=True)
class Metric:
    """One metric of the catalogue."""

    kind: Kind
    better: Literal["higher", "lower", "nearer to 0", "nearer to 1"]
    make: Callable[[Images], Measure]
    """Raises `Undefined` or `Geoi2iError` where the images or the weights are not what it needs."""
    described_by: Callable
    """Whose docstring is the definition."""
    usual: bool = False
    """Whether it is computed when none is named."""


def _in_units(make: Callable[[], Measure]) -> Callable[[Images], Measure]:
    return lambda images: replace(make(), unit=images.unit)


def _coloured(measure: Callable[[Images], Measure]) -> Callable[[Images], Measure]:
    """A measure of red, green and blue."""
    def make(images):
        if images.colours is None:
            raise Undefined(f"it is of red, green and blue, and nothing says which of the {images.bands} bands they "
                            "are: name three with --rgb")
        return of_bands(measure(images), images.colours)

    return make


def of_bands(measure: Measure, bands: Sequence[int], reference_bands: Sequence[int] | None = None) -> Measure:
    """A measure that sees some bands only (from 0) of both images."""
    mine, theirs = list(bands), list(bands if reference_bands is None else reference_bands)

    def sums(patch):
        prediction = patch.prediction[mine]
        reference = prediction if patch.alone and mine == theirs else patch.reference[theirs]
        return measure.sums(replace(patch, reference=reference, prediction=prediction))

    return replace(measure, sums=sums, settings={**measure.settings, "bands": [k + 1 for k in mine]})


def of_means(measure: Measure) -> Measure:
    """A measure that sees the mean of each image's bands."""
    def sums(patch):
        prediction = patch.prediction.mean(0, keepdims=True)
        reference = prediction if patch.alone else patch.reference.mean(0, keepdims=True)
        return measure.sums(replace(patch, reference=reference, prediction=prediction))

    return replace(measure, sums=sums, settings={**measure.settings, "bands": "mean"})


def _q2n(images: Images) -> Measure:
    full = 1 << (images.bands - 1).bit_length()
    return replace(q2n(), name=f"Q{full}" if images.bands > 1 else "Q (blocks)")


def _distance(name: str, distance: Callable, fine: bool = False, in_units: bool = False
              ) -> Callable[[Images], Measure]:
    def make(images):
        low, high = images.low, images.high
        width = (high - low) / FINE_BINS if in_units else None
        return histogram_distance(
            name, (lambda p, q: distance(p, q, width)) if in_units else distance,
            histogram_counts(low, high), low, high, fine, images.unit if in_units else "")

    return make


def _energy(name: str, band: tuple[float, float]) -> Callable[[Images], Measure]:
    return lambda images: energy_retention(name, band, power_spectra())


def _network(measure: Callable, weights: str) -> Callable[[Images], Measure]:
    return lambda images: measure(load_backbone(weights, images.weights), images.low, images.high)


def _satellite(images: Images) -> Measure:
    """All bands of Sentinel-2 where there are as many, else red, green and blue."""
    if images.bands == 13:
        return _network(perceptual.lpips_sat, "sentinel2")(images)
    return _coloured(_network(perceptual.lpips_sat, "sentinel2-rgb"))(images)


def niqe_parameters(folder: Path | None) -> NiqeParameters:
    """The pristine model in the folder of weights."""
    path = folder and Path(folder, "niqe_pris_params.npz")
    if not path or not path.is_file():
        raise Undefined("it needs LIVE's parameters, niqe_pris_params.npz of the package basicsr, in the folder of "
                        f"--weights ({folder or 'none is given'})")
    return load_niqe_parameters(path)


def _maniqa(images: Images) -> Measure:
    raise Undefined("MANIQA (Yang et al. 2022) scores random crops with a ViT-B/8 network that geoi2i does not hold; "
                    "it needs a package that offers it under the entry point geoi2i.metrics, timm's network and one "
                    "of the authors' checkpoints (ckpt_koniq10k.pt): install such a package, or leave it out")


def maniqa(images: Images) -> Measure:
    """Quality without reference by a vision transformer (Yang et al. 2022); only by a package that is installed beside.

    The package offers a function under the entry point `maniqa` of the group `geoi2i.metrics`, which takes a
    `core.metrics.catalogue.Images` and gives a `core.metrics.Measure`. The score is that of random crops: it is for
    ranking, not for the third digit.
    """
    offered = {point.name: point for point in entry_points(group="geoi2i.metrics")}
    return offered["maniqa"].load()(images) if "maniqa" in offered else _maniqa(images)


METRICS: dict[str, Metric] = {
    "bias": Metric("paired", "nearer to 0", _in_units(pixel.bias), pixel.bias, True),
    "mae": Metric("paired", "lower", _in_units(pixel.mae), pixel.mae, True),
    "rmse": Metric("paired", "lower", _in_units(pixel.rmse), pixel.rmse, True),
    "psnr": Metric("paired", "higher", lambda i: pixel.psnr(i.high - i.low), pixel.psnr, True),
    "ssim": Metric("paired", "higher", lambda i: window.ssim(i.high - i.low), window.ssim, True),
    "ergas": Metric("paired", "lower", lambda i: pixel.ergas(i.ratio), pixel.ergas, True),
    "sam": Metric("paired", "lower", lambda i: pixel.sam(), pixel.sam, True),
    "q2n": Metric("paired", "higher", _q2n, q2n, True),
    "q": Metric("paired", "higher", lambda i: window.q(), window.q),
    "scc_dlpan": Metric("paired", "higher", lambda i: window.scc_dlpan(), window.scc_dlpan, True),
    "scc_local": Metric("paired", "higher", lambda i: window.scc_local(), window.scc_local),
    "ciede2000": Metric("paired", "lower", _coloured(lambda i: pixel.ciede2000((i.low,) * 3, (i.high,) * 3)),
                        pixel.ciede2000, True),
    "fsim": Metric("paired", "higher", lambda i: fsim(i.low, i.high), fsim),
    "fsimc": Metric("paired", "higher", _coloured(lambda i: fsim(i.low, i.high, chromatic=True)), fsim),
    "lpips": Metric("paired", "lower", _coloured(_network(perceptual.lpips, "alexnet")), perceptual.lpips),
    "lpips_vgg": Metric("paired", "lower", _coloured(_network(perceptual.lpips, "vgg16")), perceptual.lpips),
    "dists": Metric("paired", "lower", _coloured(_network(perceptual.dists, "vgg16")), perceptual.dists),
    "lpips_sat": Metric("paired", "lower", _satellite, perceptual.lpips_sat),
    "chi_square": Metric("sets", "lower", _distance("chi-square", chi_square), chi_square, True),
    "wasserstein_1": Metric("sets", "lower", _distance("Wasserstein-1", wasserstein_1, True, True),
                            wasserstein_1, True),
    "jensen_shannon": Metric("sets", "lower", _distance("Jensen-Shannon", jensen_shannon),
                             jensen_shannon, True),
    "hellinger": Metric("sets", "lower", _distance("Hellinger", hellinger), hellinger),
    "total_variation": Metric("sets", "lower", _distance("total variation", total_variation), total_variation),
    "mid_energy": Metric("sets", "nearer to 1", _energy("mid-band energy", MID), energy_retention,
                         True),
    "high_energy": Metric("sets", "nearer to 1", _energy("high-band energy", HIGH),
                          energy_retention, True),
    "fid": Metric("sets", "lower", _coloured(_network(perceptual.fid, "inception")), perceptual.fid),
    "nll": Metric("uncertainty", "lower", lambda i: pixel.gaussian_nll(), pixel.gaussian_nll, True),
    "ece": Metric("uncertainty", "lower", lambda i: pixel.calibration_error(), pixel.calibration_error, True),
    "d_lambda": Metric("pan", "lower", lambda i: pansharpening.d_lambda(), pansharpening.d_lambda, True),
    "d_s": Metric("pan", "lower", lambda i: pansharpening.d_s(), pansharpening.d_s, True),
    "d_lambda_khan": Metric("pan", "lower", lambda i: pansharpening.d_lambda_khan(i.sensor, int(i.ratio)),
                            pansharpening.d_lambda_khan, True),
    "niqe": Metric("alone", "lower", lambda i: niqe(niqe_parameters(i.weights), i.low, i.high), niqe),
    "maniqa": Metric("alone", "higher", maniqa, maniqa),
}
"""What `--metric` takes."""

EXTRAS = {"qnr": (pansharpening.qnr, "higher"), "hqnr": (pansharpening.qnr, "higher"),
          "clipped": (clipped, "nearer to 0"), "edge_displacement": (edge_displacement, "nearer to 0"),
          "above_nyquist": (above, "nearer to 0"), "above_nyquist_of_cubic": (above, "nearer to 0"),
          "seams_rows": (StepProfile, "nearer to 1"), "seams_columns": (StepProfile, "nearer to 1")}
"""What an evaluation finds beside the metrics that a user names: where it is described, which way is better."""


def definition(name: str) -> str:
    """What a metric is, with its source, in plain text."""
    text = inspect.cleandoc((METRICS[name].described_by if name in METRICS else EXTRAS[name][0]).__doc__ or "")
    return text.split("\n\nArgs:")[0].split("\n\nReturns:")[0].split("\n\nRaises:")[0]


def better(name: str) -> str:
    """Which way is better."""
    return METRICS[name].better if name in METRICS else EXTRAS[name][1]
