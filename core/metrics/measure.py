"""How a measure is taken of rasters of any size: sums over patches that may come in any order, one score at the end.

    patches -> Measure.sums -> totals (float64, added, merged) -> Measure.score

A patch is a part of both rasters with a border of context. Every pixel is owned by exactly one patch, so the
result does not depend on how a raster is cut, in which order its parts come, or who adds them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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

    @property
    def alone(self) -> bool:
        """Whether there is one image only, which stands for both."""
        return self.reference is self.prediction

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Owned valid pixels of both, (C,n)."""
        return self._pixels

    @cached_property
    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        valid = self.valid[self.owned]
        whole = valid.all()
        reference, prediction = (part.reshape(len(part), -1) if whole else part[:, valid]
                                 for part in (image[:, *self.owned] for image in (self.reference, self.prediction)))
        return reference, prediction

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


def patch_of(reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None,
             owned: tuple[slice, slice] | None = None) -> Patch:
    """A part of two images as measures take it.

    Args:
        reference, prediction: (C,h,w) or (h,w), any real dtype; NaN and infinities count as no data.
        mask: (h,w), not 0 where both have data; None: everywhere.
        owned: rows and columns that no other part owns; None: all. What else is there is context, of which
            `halo_px` of the measure on each side that is not the raster's own border are needed. Parts start on
            multiples of its `block_px`.
    """
    images = [np.atleast_3d(image.T).T if image.ndim == 2 else image
              for image in map(np.asarray, (reference, prediction))]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise ValueError(f"the images have {images[0].shape[1:]} and {images[1].shape[1:]} pixels")
    valid: np.ndarray = np.ones(images[0].shape[1:], bool) if mask is None else np.asarray(mask) != 0
    for image in images:
        if image.dtype.kind == "f":
            valid = valid & np.isfinite(image).all(0)
    whole = valid.all()
    same = images[0] is images[1]
    images = [image.astype(np.float64) if whole else np.where(valid, image, 0).astype(np.float64, copy=False)
              for image in images[: 1 if same else 2]]
    return Patch(images[0], images[-1], valid, owned or (slice(0, valid.shape[0]), slice(0, valid.shape[1])))


class Accumulator:
    """A measure at work."""

    def __init__(self, measure: Measure):
        self.measure, self.excluded = measure, 0
        self.totals: dict[str, np.ndarray] = {}

    def update(self, reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None,
               owned: tuple[slice, slice] | None = None) -> "Accumulator":
        """Adds a part of two images; see `patch_of`."""
        patch = patch_of(reference, prediction, mask, owned)
        return self.add(self.measure.sums(patch), patch)

    def add(self, sums: dict[str, np.ndarray], patch: Patch) -> "Accumulator":
        """Adds what the measure's `sums` gave for a patch."""
        for key, value in sums.items():
            self.totals[key] = self.totals.get(key, 0.0) + np.asarray(value, np.float64)
        self.excluded += int(np.count_nonzero(~patch.valid[patch.owned]))
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
                raise Undefined("no pixel has data in both images, in all bands and with all that the measure needs "
                                "around it")
            value = float(self.measure.score(self.totals))
        except Undefined as error:
            note = f"{self.measure.name} has no value: {error}."
        return Score(self.measure.name, value, self.measure.unit, count, self.excluded, self.measure.settings, note)


def measured(measure: Measure, reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """The value of a measure for two whole images in memory."""
    return Accumulator(measure).update(reference, prediction, mask).compute().value


def see(measures: Sequence[Measure], patch: Patch) -> list[Accumulator]:
    """What each measure finds in one patch; sums that several share are made once."""
    made = {sums: sums(patch) for sums in {measure.sums: None for measure in measures}}
    return [Accumulator(measure).add(made[measure.sums], patch) for measure in measures]
