"""Distances between colour distributions."""

import numpy as np


def histogram(values: np.ndarray, weights: np.ndarray | None, low: float, high: float, bins: int = 31) -> np.ndarray:
    """Normalised histogram (C, bins) of values (C, n); 31 bins as in the JunoCam team's metric script."""
    rows = []
    for k in range(values.shape[0]):
        counts, _ = np.histogram(np.clip(values[k], low, high), bins, (low, high), weights=weights)
        rows.append(counts / max(counts.sum(), 1e-300))
    return np.stack(rows)


def chi_square(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of (p-q)^2 / (p+q), mean over bands: 0 for equal, 1 for disjoint histograms (C, bins)."""
    total = p + q
    terms = np.divide((p - q) ** 2, total, out=np.zeros_like(total), where=total > 0)
    return float(0.5 * terms.sum(1).mean())
