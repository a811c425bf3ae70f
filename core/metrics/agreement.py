"""How far a translation agrees with what it was made of: level and slope by band, clipped values, moved edges."""

from dataclasses import dataclass

import numpy as np

from .measure import Measure, Patch, Undefined
from .tile import tiles
from .window import sobel


@dataclass(frozen=True)
class BandAgreement:
    """Prediction against reference in one band, in the data's units."""

    count: int
    mean: float
    """Of the reference."""
    bias: float
    """Mean of prediction minus reference."""
    rmse: float
    slope: float
    """Of the line of least squares, prediction over reference; NaN where the reference is constant."""
    correlation: float
    """NaN where one of both is constant."""


def moments(patch: Patch) -> dict:
    """Sums of both images by band (C,)."""
    x, y = patch.pixels()
    return {"count": x.shape[1], "x": x.sum(1), "y": y.sum(1), "xx": (x * x).sum(1), "yy": (y * y).sum(1),
            "xy": (x * y).sum(1), "squared": ((y - x) ** 2).sum(1)}


def band_agreement() -> Measure:
    """Bias, RMSE, slope and correlation of each band are read from its totals by `agreements`; its score is the
    mean slope of prediction over reference."""
    def score(total):
        slopes = [row.slope for row in agreements(total)]
        if np.isnan(slopes).any():
            raise Undefined("a band of the reference is constant: use the bias")
        return float(np.mean(slopes))

    return Measure("slope", "", 1.0, moments, score)


def agreements(total: dict) -> list[BandAgreement]:
    """The rows of a table, one a band, from the totals of `band_agreement`."""
    n = total["count"]
    mx, my = total["x"] / n, total["y"] / n
    vx, vy = np.maximum(total["xx"] / n - mx * mx, 0), np.maximum(total["yy"] / n - my * my, 0)
    covariance = total["xy"] / n - mx * my
    # What rounding leaves of the variance of a constant band.
    vx, vy = (np.where(v > 1e-14 * m * m, v, 0.0) for v, m in ((vx, mx), (vy, my)))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(vx > 0, covariance / vx, np.nan)
        correlation = np.where(vx * vy > 0, covariance / np.sqrt(vx * vy), np.nan)
    return [BandAgreement(int(n), *(float(v[k]) for v in (mx, my - mx, np.sqrt(total["squared"] / n), slope,
                                                          correlation))) for k in range(len(mx))]


def clipped(low: tuple[float, ...], high: tuple[float, ...]) -> Measure:
    """Share of the prediction's values that lie at the ends of what it can hold, where detail is lost.

    Args:
        low, high: smallest and largest value of each band. Totals "low" and "high" hold the counts by band.
    """
    def sums(patch):
        values = patch.pixels()[1]
        return {"count": values.shape[1], "low": (values <= np.array(low)[:, None]).sum(1),
                "high": (values >= np.array(high)[:, None]).sum(1)}

    return Measure("clipped", "", 0.0, sums, lambda t: ((t["low"] + t["high"]) / t["count"]).mean(),
                   settings={"low": low, "high": high})


def edge_displacement(side: int = 128, reach_px: int = 8) -> Measure:
    """Mean distance by which edges of the prediction stand beside those of the reference, in pixels.

    In tiles of `side` pixels the strength of edges (Sobel magnitude of the bands' mean) of both images is correlated;
    the peak within `reach_px`, between pixels by a parabola, is the displacement, and each tile counts with its
    correlation there. Totals "down" and "right" give the mean shift, a system's misregistration.
    """
    along = np.hanning(side - 2)
    taper = np.outer(along, along)

    def sums(patch):
        found = np.zeros(5)
        for reference, prediction in tiles(patch, side, side):
            one, other = (sobel(image.mean(0)) for image in (reference, prediction))
            one, other = ((image - (image * taper).sum() / taper.sum()) * taper for image in (one, other))
            energy = np.sqrt((one**2).sum() * (other**2).sum())
            found[0] += 1
            if energy > 0:
                down, right, peak = _peak(one, other, reach_px)
                weight = max(peak / energy, 0.0)
                found[1:] += weight, weight * down, weight * right, weight * np.hypot(down, right)
        return dict(zip(("count", "weight", "down", "right", "distance"), found))

    def score(total):
        if total["weight"] == 0:
            raise Undefined("no tile has edges in both images: use the bias")
        return total["distance"] / total["weight"]

    return Measure("edge displacement", "px", 0.0, sums, score, block_px=side,
                   settings={"tile": side, "reach_px": reach_px})


def _peak(one: np.ndarray, other: np.ndarray, reach: int) -> tuple[float, float, float]:
    """Rows and columns by which `other` is moved, and the correlation there."""
    shape = [2 * n for n in one.shape]
    surface = np.fft.irfft2(np.conj(np.fft.rfft2(one, shape)) * np.fft.rfft2(other, shape), shape)
    surface = np.roll(surface, (reach + 1, reach + 1), (0, 1))[: 2 * reach + 3, : 2 * reach + 3]
    row, col = np.unravel_index(surface[1:-1, 1:-1].argmax(), (2 * reach + 1, 2 * reach + 1))
    row, col = row + 1, col + 1
    down = row - reach - 1 + _vertex(*surface[row - 1 : row + 2, col])
    right = col - reach - 1 + _vertex(*surface[row, col - 1 : col + 2])
    return down, right, surface[row, col]


def _vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three neighbours has its peak, from the middle one."""
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0

