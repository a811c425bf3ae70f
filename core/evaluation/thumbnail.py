"""A small picture of both images of a comparison, made while they are measured."""

import math
import threading

import numpy as np

from ..metrics.measure import Patch


class Thumbnail:
    """Both images of a comparison made small: means over square blocks of their valid pixels."""

    def __init__(self, height: int, width: int, bands: int, longest: int = 900):
        self.bands = bands  # of the prediction; what stands behind them is not a picture
        self.factor = max(1, math.ceil(max(height, width) / longest))
        self.shape = -(-height // self.factor), -(-width // self.factor)
        self._sums: list[np.ndarray] = []
        self._count, self._lock = np.zeros(self.shape), threading.Lock()

    def add(self, patch: Patch, row: int, col: int) -> None:
        """Adds what a patch owns; its first pixel is at `row`, `col`."""
        valid = patch.valid[patch.owned]
        images = [image[:, *patch.owned] * valid for image in (patch.reference, patch.prediction[: self.bands])]
        cuts, places = [], []
        for first, size in zip((row, col), valid.shape):
            cuts.append(np.r_[0, np.arange(self.factor - first % self.factor, size, self.factor)])
            places.append(slice(first // self.factor, first // self.factor + len(cuts[-1])))

        def small(image):
            return np.add.reduceat(np.add.reduceat(image, cuts[0], -2), cuts[1], -1)

        found = [small(image) for image in images]
        count = small(valid.astype(np.float64))
        with self._lock:
            if not self._sums:
                self._sums = [np.zeros((len(image), *self.shape)) for image in images]
            for total, part in zip(self._sums, found):
                total[:, *places] += part
            self._count[*places] += count

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and prediction (C,h,w), NaN where there is no data."""
        with np.errstate(invalid="ignore", divide="ignore"):
            reference, prediction = (np.where(self._count > 0, total / self._count, np.nan) for total in self._sums)
        return reference, prediction
