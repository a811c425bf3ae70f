"""What is drawn of the images of a comparison: histograms, spectra and calibration."""

from dataclasses import replace

from ..metrics import Accumulator, Measure
from ..metrics.catalogue import METRICS, Images
from ..metrics.histogram import histogram_counts, shares
from ..metrics.spectrum import radial_means
from .results import Curves


def drawn_measures(images: Images) -> list[Measure]:
    """Histograms and spectra for the curves; sums only."""
    made = METRICS["chi_square"].make(images), METRICS["mid_energy"].make(images)
    return [replace(made[0], sums=histogram_counts(images.low, images.high)), made[1]]


def curves_of(found: list[Accumulator], other: str) -> Curves:
    """The curves of what `drawn_measures` found.

    Args:
        other: what the reference is called.
    """
    counts, spectra = (one.totals for one in found)
    if not counts.get("count"):
        return Curves()
    names = {"prediction": "prediction", "reference": other}
    drawn = Curves({name: shares(counts[key]) for key, name in names.items()})
    if not spectra.get("count"):
        return drawn
    frequencies, _ = radial_means(spectra["prediction"])
    return replace(drawn, frequencies=frequencies, spectra={
        name: radial_means(spectra[key] / spectra[f"{key}_count"])[1] for key, name in names.items()})


def calibration_of(found: Accumulator) -> tuple[tuple[float, float], ...]:
    """Predicted quantiles and shares of reference values below, from what the measure `ece` found."""
    if not found.totals.get("count"):
        return ()
    levels = found.measure.settings["levels"]
    return tuple((a, float(below / found.totals["values"])) for a, below in zip(levels, found.totals["below"]))
