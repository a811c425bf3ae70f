"""Distances between distributions of network features: what FID is made of, whatever the network."""

import numpy as np


class FeatureMoments:
    """Mean and covariance of features that come in any order."""

    def __init__(self):
        self.count, self.sum, self.products, self.centre = 0, 0.0, 0.0, None

    def update(self, features: np.ndarray) -> "FeatureMoments":
        """Adds features (n,d)."""
        features = np.asarray(features, np.float64)
        if self.centre is None:
            self.centre = features.mean(0)  # sums around it keep their digits
        moved = features - self.centre
        self.count += len(moved)
        self.sum = self.sum + moved.sum(0)
        self.products = self.products + moved.T @ moved
        return self

    def merge(self, other: "FeatureMoments") -> "FeatureMoments":
        """Adds what another has seen."""
        if other.centre is None:
            return self
        if self.centre is None:
            self.centre = other.centre
        step = other.centre - self.centre
        cross = np.outer(other.sum, step)
        self.products = self.products + other.products + cross + cross.T + other.count * np.outer(step, step)
        self.sum = self.sum + other.sum + other.count * step
        self.count += other.count
        return self

    @property
    def mean(self) -> np.ndarray:
        """(d,)."""
        return self.centre + self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """(d,d), unbiased; needs two features or more."""
        moved = self.sum / self.count
        return (self.products - self.count * np.outer(moved, moved)) / (self.count - 1)


def frechet_distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """Squared Frechet distance of two normal distributions (Dowson and Landau 1982); of Inception features it is FID.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the root by eigenvalues of C1^(1/2) C2 C1^(1/2).
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ covariance2 @ root).clip(0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * trace)
