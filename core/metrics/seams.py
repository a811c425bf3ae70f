"""Window borders in a translated raster: whether the image steps on a lattice of lines more than beside them.

A border between two windows is a small step that is as long as the windows are, while what is in the
picture changes along it. So steps are averaged along runs of pixels first, which leaves of a picture's own
variation little and of a border all. Lines are then ranked, and the lattice is looked for whose lines rank highest.
"""

import math
from dataclasses import dataclass

import numpy as np

from .measure import Score

CONTEXT_PX = 2
"""Rows that a part needs above, and one less below."""
RUN_PX = 32
_NEAR, _FEWEST, _PERIODS = 8, 3, (16, 2048)


@dataclass(frozen=True)
class Lattice:
    """Lines that window borders would follow, along one axis."""

    period_px: int
    first_px: int
    """The first line lies between this pixel and the one before it."""
    lines: int
    ratio: float
    """Mean step across the lines over the mean step of the lines beside them; 1 without seams."""
    chance: float
    """Probability, at most, that the best lattice of a raster without seams ranks so high."""

    @property
    def found(self) -> bool:
        """Whether it stands out."""
        return self.chance < 1e-3


class StepProfile:
    """Steps between neighbouring rows and columns, which show the borders of windows that a raster was made of.

    Each step, less those beside it, is averaged along runs of 32 pixels: what is in a picture changes along a line,
    the step between two windows does not. Lines are ranked, and of all lattices the one is taken whose lines rank
    highest. The value is the mean step on it over that of the lines beside; 1 without seams. The chance is the
    probability that some lattice ranks so high in a raster without seams.
    """

    def __init__(self, height: int, width: int):
        self.rows, self.cols = np.zeros((2, height)), np.zeros((2, width))

    def update(self, row: int, pixels: np.ndarray, valid: np.ndarray, owned: slice) -> "StepProfile":
        """Adds rows of which a multiple of `RUN_PX` is owned, unless they are the last.

        Args:
            row: number of the first owned row.
            pixels, valid: (C,h,W) and (h,W), with `CONTEXT_PX` rows of context above and one less below,
                where the raster has them.
            owned: which of them count.
        """
        pixels = np.where(valid, pixels, 0).astype(np.float64)
        height, width = valid[owned].shape
        steps, there = _steps(pixels[:, owned], valid[owned])
        runs = [slice(k, k + RUN_PX) for k in range(0, height - RUN_PX + 1, RUN_PX)]
        self.cols += _along(steps, there, runs)
        steps, there = _steps(pixels.transpose(0, 2, 1), valid.T)
        runs = [slice(k, k + RUN_PX) for k in range(0, width - RUN_PX + 1, RUN_PX)]
        self.rows[:, row : row + height] += _along(steps, there, runs)[:, owned]
        return self

    def lattices(self, period_px: int | None = None) -> dict[str, Lattice | None]:
        """The lattice that stands out most among "rows" and "columns"; None where the raster is too small for one.

        Args:
            period_px: step from window to window; None: tries all from 16 to 2048 pixels.
        """
        return {name: _strongest(sums, period_px) for name, sums in (("rows", self.rows), ("columns", self.cols))}


def seam_score(axis: str, lattice: Lattice | None) -> Score:
    """The finding along one axis, "rows" or "columns", as a score with a sentence."""
    name = f"seams between {axis}"
    if lattice is None:
        return Score(name, float("nan"), "", 0, 0, {}, f"{name} have no value: the raster is too small or too even for "
                     "three lines of windows.")
    settings = {"period_px": lattice.period_px, "first_px": lattice.first_px, "chance": lattice.chance,
                "found": lattice.found}
    jpeg = " That is the step of JPEG's blocks too." if lattice.period_px % 16 == 0 and lattice.period_px <= 32 else ""
    where = f"every {lattice.period_px} pixels from pixel {lattice.first_px}"
    note = (f"Window borders stand out {where}: the image steps {lattice.ratio:.2f} times as far there as beside "
            f"(by chance: {lattice.chance:.1e}).{jpeg}" if lattice.found else
            f"No window borders stand out; the most likely ones, {where}, may be chance ({lattice.chance:.2g}).")
    return Score(name, lattice.ratio, "", lattice.lines, 0, settings, note)


def _steps(pixels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,h,w) steps to the pixel before, less the mean of the steps on both sides of it, and where that is known."""
    steps, there = np.zeros(pixels.shape), np.zeros(valid.shape, bool)
    if valid.shape[1] > 3:
        plain = np.diff(pixels, axis=2)
        steps[..., 2:-1] = plain[..., 1:-1] - (plain[..., :-2] + plain[..., 2:]) / 2
        there[:, 2:-1] = valid[:, :-3] & valid[:, 1:-2] & valid[:, 2:-1] & valid[:, 3:]
    return steps, there


def _along(steps: np.ndarray, there: np.ndarray, runs: list[slice]) -> np.ndarray:
    """Sum over runs of rows of the absolute mean step (2,w), and how many runs are known in full."""
    total = np.zeros((2, there.shape[1]))
    for run in runs:
        whole = there[run].all(0)
        total += np.abs(steps[:, run].mean(1)).mean(0) * whole, whole
    return total


def _strongest(sums: np.ndarray, period: int | None) -> Lattice | None:
    known = sums[1] > 0
    step = np.where(known, sums[0] / np.maximum(sums[1], 1), np.nan)
    usual = _beside(step)
    known &= usual > 0
    if known.sum() < 4 * _FEWEST:
        return None
    # Ranks from 1 / n for the highest: were there no lattice, their logarithms would be exponentially distributed.
    surprise = np.zeros(len(step))
    order = np.argsort(-(step[known] / usual[known]), kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    surprise[known] = -np.log(ranks / len(order))
    best, tried = None, 0
    for candidate in [period] if period else range(_PERIODS[0], _PERIODS[1] + 1):
        rows = -(-len(step) // candidate)
        padding = (0, rows * candidate - len(step))
        total = np.pad(surprise, padding).reshape(rows, candidate).sum(0)
        count = np.pad(known, padding).reshape(rows, candidate).sum(0)
        enough = count >= _FEWEST
        if not enough.any():
            continue
        tried += int(enough.sum())
        likely = np.where(enough, _log_tail(total, count), 0.0)
        at = int(likely.argmin())
        if best is None or likely[at] < best[0]:
            best = float(likely[at]), candidate, at
    if best is None:
        return None
    lines = np.arange(best[2], len(step), best[1])
    lines = lines[known[lines]]
    return Lattice(best[1], best[2], len(lines), float(step[lines].mean() / usual[lines].mean()),
                   min(1.0, math.exp(min(best[0] + math.log(tried), 0.0))))


def _log_tail(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Logarithm of the probability that a sum of `count` exponential variables exceeds `total`."""
    k = np.arange(count.max())
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(len(k), 1))))])[: len(k)]
    terms = np.where(k < count[:, None], k * np.log(np.maximum(total, 1e-300))[:, None] - logs, -np.inf)
    most = terms.max(1, initial=-np.inf)
    most = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return -total + most + np.log(np.exp(terms - most[:, None]).sum(1))


def _beside(step: np.ndarray) -> np.ndarray:
    """The mean step of the lines beside each line; 0 where none is known."""
    wide = np.pad(step, _NEAR, constant_values=np.nan)
    near = np.stack([wide[_NEAR + k : _NEAR + k + len(step)] for k in range(-_NEAR, _NEAR + 1) if k])
    known = np.isfinite(near)
    return np.where(known, near, 0).sum(0) / np.maximum(known.sum(0), 1)
