"""How a measure is taken of rasters of any size: sums over patches that may come in any order, one score at the end.

    patches -> Measure.sums -> totals (float64, added, merged) -> Measure.score

A patch is a part of both rasters with a border of context. Every pixel is owned by exactly one patch, so the
result does not depend on how a raster is cut, in which order its parts come, or who adds them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


class Undefined(Exception):
    """A measure has no value here; the message says why and what to do."""


@dataclass(frozen=True)
class Patch:
    """A part of two images on one grid."""

    reference: np.ndarray
    """(C,h,w) float64, 0 where there is no data."""
    prediction: np.ndarray
    valid: np.ndarray
    """(h,w), where both have data in all bands."""
    owned: tuple[slice, slice]
    """Rows and columns that count here; the rest is context."""

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Owned valid pixels of both, (C,n)."""
        valid = self.valid[self.owned]
        return self.reference[:, *self.owned][:, valid], self.prediction[:, *self.owned][:, valid]

    def moved(self, array: np.ndarray, reach: tuple[int, int, int, int]) -> np.ndarray:
        """The owned part of what a sliding window gave.

        Args:
            array: (...,h',w'), one value for each window that lies inside the patch.
            reach: pixels of a window above, below, left and right of the one it belongs to.
        """
        up, _, left, _ = reach
        height, width = array.shape[-2:]
        rows, cols = ((max(part.start - before, 0), max(min(part.stop - before, size), 0))
                      for part, before, size in zip(self.owned, (up, left), (height, width)))
        return array[..., slice(*rows), slice(*cols)]


@dataclass(frozen=True)
class Measure:
    """A measure: what is added up, and what becomes of the sums."""

    name: str
    unit: str
    best: float
    """Its value for two equal images."""
    sums: Callable[[Patch], dict[str, np.ndarray]]
    """Quantities that add over patches; "count" is how many pixels, windows or blocks went into them."""
    score: Callable[[dict[str, np.ndarray]], float]
    """May raise `Undefined`; is not called where nothing was counted."""
    halo_px: int = 0
    """Context that `sums` needs around the owned pixels."""
    block_px: int = 1
    """Patches are cut on multiples of it, from the raster's first pixel."""
    settings: dict = field(default_factory=dict)
    """What the value depends on, to stand beside it."""


@dataclass(frozen=True)
class Score:
    """A value with what it was made of."""

    name: str
    value: float
    """NaN where the measure is undefined."""
    unit: str
    n_valid: int
    """Pixels, windows or blocks that went into it."""
    excluded: int
    """Pixels that were seen and have no data in one of the images."""
    settings: dict = field(default_factory=dict)
    note: str = ""
    """Why there is no value."""


class Accumulator:
    """A measure at work."""

    def __init__(self, measure: Measure):
        self.measure, self.totals, self.excluded = measure, {}, 0

    def update(self, reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None,
               owned: tuple[slice, slice] | None = None) -> "Accumulator":
        """Adds a part of two images.

        Args:
            reference, prediction: (C,h,w) or (h,w), any real dtype; NaN and infinities count as no data.
            mask: (h,w), not 0 where both have data; None: everywhere.
            owned: rows and columns that no other part owns; None: all. What else is there is context, of which
                `measure.halo_px` on each side that is not the raster's own border are needed. Parts start on
                multiples of `measure.block_px`.
        """
        reference, prediction = (np.atleast_3d(image.T).T if image.ndim == 2 else image
                                 for image in map(np.asarray, (reference, prediction)))
        if reference.shape[1:] != prediction.shape[1:]:
            raise ValueError(f"the images have {reference.shape[1:]} and {prediction.shape[1:]} pixels")
        valid = np.ones(reference.shape[1:], bool) if mask is None else np.asarray(mask) != 0
        images = []
        for image in (reference, prediction):
            image = image.astype(np.float64)
            valid = valid & np.isfinite(image).all(0)
            images.append(image)
        owned = owned or (slice(0, valid.shape[0]), slice(0, valid.shape[1]))
        images = [np.where(valid, image, 0.0) for image in images]
        for key, value in self.measure.sums(Patch(*images, valid, owned)).items():
            self.totals[key] = self.totals.get(key, 0.0) + np.asarray(value, np.float64)
        self.excluded += int(np.count_nonzero(~valid[owned]))
        return self

    def merge(self, other: "Accumulator") -> "Accumulator":
        """Adds what another has seen."""
        for key, value in other.totals.items():
            self.totals[key] = self.totals.get(key, 0.0) + value
        self.excluded += other.excluded
        return self

    def compute(self) -> Score:
        """The score of all that was added."""
        count, note, value = int(self.totals.get("count", 0)), "", float("nan")
        try:
            if not count:
                raise Undefined("no pixel has data in both images with all that the measure needs around it")
            value = float(self.measure.score(self.totals))
        except Undefined as error:
            note = f"{self.measure.name} has no value: {error}."
        return Score(self.measure.name, value, self.measure.unit, count, self.excluded, self.measure.settings, note)


def measured(measure: Measure, reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """The value of a measure for two whole images in memory."""
    return Accumulator(measure).update(reference, prediction, mask).compute().value
