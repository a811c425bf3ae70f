"""Distances between colour distributions."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .measure import Measure, Patch

FINE_BINS, BINS = 248, 31
"""Bins that are counted, and those of the JunoCam team's metric script, eight of the former each."""

Distance = Callable[[np.ndarray, np.ndarray], float]


def histogram(values: np.ndarray, weights: np.ndarray | None, low: float, high: float, bins: int = 31) -> np.ndarray:
    """Normalised histogram (C, bins) of values (C, n); 31 bins as in the JunoCam team's metric script."""
    rows = []
    for k in range(values.shape[0]):
        counts, _ = np.histogram(np.clip(values[k], low, high), bins, (low, high), weights=weights)
        rows.append(counts / max(counts.sum(), 1e-300))
    return np.stack(rows)


def sliced_wasserstein(p: np.ndarray, q: np.ndarray, directions: int = 64) -> float:
    """Mean distance between the sorted projections of two sets of values (C, n), over fixed random directions.

    Unlike histograms of single bands it sees which colours come together (Rabin et al. 2011, eq. 11, order 1).
    In the values' units; 0 for equal sets.
    """
    axes = np.random.default_rng(0).normal(size=(directions, p.shape[0]))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    at = (np.arange(count := min(p.shape[1], q.shape[1])) + 0.5) / count
    nearest = [np.rint((values.shape[1] - 1) * at).astype(int) for values in (p, q)]
    total = 0.0
    for axis in axes:  # sorted once: asking for each quantile by itself takes minutes for a million values
        found, wanted = (np.sort(axis @ values)[places] for values, places in zip((p, q), nearest))
        total += np.abs(found - wanted).mean()
    return float(total / directions)


def chi_square(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of (p-q)^2 / (p+q), mean over bands: 0 for equal, 1 for disjoint histograms (C, bins)."""
    total = p + q
    terms = np.divide((p - q) ** 2, total, out=np.zeros_like(total), where=total > 0)
    return float(0.5 * terms.sum(1).mean())


def wasserstein_1(p: np.ndarray, q: np.ndarray, width: float = 1.0) -> float:
    """Earth mover's distance of histograms (C, bins), mean over bands; in bins, or in units with the bins' width."""
    return float(np.abs(np.cumsum(p - q, 1)).sum(1).mean() * width)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon distance (the root of the divergence, base 2) of histograms (C, bins), mean over bands; 0 to 1."""
    middle = (p + q) / 2

    def divergence(a):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(a > 0, a * np.log2(a / middle), 0.0).sum(1)

    return float(np.sqrt(np.maximum((divergence(p) + divergence(q)) / 2, 0)).mean())


def hellinger(p: np.ndarray, q: np.ndarray) -> float:
    """Hellinger distance of histograms (C, bins), mean over bands; 0 to 1."""
    return float(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(1) / 2).mean())


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of |p - q| of histograms (C, bins), mean over bands; 0 to 1."""
    return float(np.abs(p - q).sum(1).mean() / 2)


@lru_cache(maxsize=8)
def histogram_counts(low: float, high: float) -> Callable[[Patch], dict]:
    """Sums of the measures below: how often values fall into bins (C,248) from `low` to `high`, for each image.

    What lies beyond counts in the outermost bins.
    """
    def sums(patch):
        reference, prediction = patch.pixels()
        found = {"prediction": _counted(prediction, low, high), "count": prediction.shape[1]}
        return found | {"reference": found["prediction"] if patch.alone else _counted(reference, low, high)}

    return sums


def _counted(values: np.ndarray, low: float, high: float) -> np.ndarray:
    place = ((values - low) * (FINE_BINS / (high - low))).clip(0, FINE_BINS - 1).astype(np.int64)
    place += np.arange(len(values))[:, None] * FINE_BINS
    return np.bincount(place.ravel(), minlength=len(values) * FINE_BINS).reshape(len(values), FINE_BINS)


def histogram_distance(name: str, distance: Distance, counts: Callable[[Patch], dict], low: float, high: float,
                       fine: bool = False, unit: str = "") -> Measure:
    """A distance of both images' histograms, 0 for equal ones; the images need not show the same place.

    Args:
        counts: `histogram_counts(low, high)`; measures that share it count once.
        fine: whether all 248 bins are used, else 31.
    """
    def score(total):
        return distance(*(shares(total[image], FINE_BINS if fine else BINS) for image in ("reference", "prediction")))

    return Measure(name, unit, 0.0, counts, score, settings={"low": low, "high": high,
                                                             "bins": FINE_BINS if fine else BINS})


def shares(counts: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Counts (C,248) as shares of all (C,bins)."""
    counts = counts.reshape(len(counts), bins, -1).sum(2)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
