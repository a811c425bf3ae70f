"""Measures that are sums over pixels."""

import math
from statistics import NormalDist

import numpy as np

from .measure import Measure, Patch, Undefined


def psnr(peak: float) -> Measure:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / MSE), the error pooled over bands.

    Args:
        peak: largest value that the data can have, in its own units (255, 2047, 1.0).
    """
    def score(total):
        error = total["squared"].sum() / total["count"] / total["squared"].size
        return math.inf if error == 0 else 10 * math.log10(peak**2 / error)

    return Measure("PSNR", "dB", math.inf, _errors, score, settings={"peak": peak})


def rmse() -> Measure:
    """Root mean square error, pooled over bands, in the data's units."""
    return Measure("RMSE", "", 0.0, _errors, lambda t: math.sqrt(t["squared"].mean() / t["count"]))


def mae() -> Measure:
    """Mean absolute error, pooled over bands, in the data's units."""
    return Measure("MAE", "", 0.0, _errors, lambda t: t["absolute"].mean() / t["count"])


def bias() -> Measure:
    """Mean of prediction minus reference, pooled over bands, in the data's units."""
    return Measure("bias", "", 0.0, _errors, lambda t: t["difference"].mean() / t["count"])


def ergas(ratio: float) -> Measure:
    """Relative dimensionless global error (Wald 2000): 100 / ratio * sqrt(mean_b(MSE_b / mean(reference_b)^2)).

    Args:
        ratio: coarse pixel size over fine, 4 for a pan-sharpened multispectral image.
    """
    def score(total):
        mean = total["reference"] / total["count"]
        if (mean <= 0).any():
            raise Undefined("a band of the reference has no positive mean, as data in decibel or around zero: ERGAS "
                            "relates errors to it; use RMSE")
        return 100 / ratio * math.sqrt(np.mean(total["squared"] / total["count"] / mean**2))

    return Measure("ERGAS", "", 0.0, _errors, score, settings={"ratio": ratio})


def _errors(patch: Patch) -> dict:
    reference, prediction = patch.pixels()
    difference = prediction - reference
    return {"count": reference.shape[1], "squared": (difference**2).sum(1), "absolute": np.abs(difference).sum(1),
            "difference": difference.sum(1), "reference": reference.sum(1)}


def sam() -> Measure:
    """Spectral angle (Kruse et al. 1993): the mean angle between the spectra of a pixel, in degrees.

    Pixels whose spectrum is zero in one image have no angle and are not counted, as in DLPan-Toolbox.
    """
    def sums(patch):
        reference, prediction = patch.pixels()
        lengths = np.linalg.norm(reference, axis=0), np.linalg.norm(prediction, axis=0)
        has = (lengths[0] > 0) & (lengths[1] > 0)
        one, other = (image[:, has] / length[has] for image, length in zip((reference, prediction), lengths))
        # Not by the arc cosine, which loses half of the digits of a small angle.
        angle = 2 * np.arctan2(np.linalg.norm(one - other, axis=0), np.linalg.norm(one + other, axis=0))
        return {"count": has.sum(), "angle": angle.sum()}

    return Measure("SAM", "degree", 0.0, sums, lambda t: math.degrees(t["angle"] / t["count"]))


def gaussian_nll() -> Measure:
    """Mean negative log-likelihood of the reference under a normal distribution, in nats a value.

    The prediction holds the means and behind them, in as many bands, the standard deviations.
    """
    def sums(patch):
        reference, prediction = patch.pixels()
        mean, sigma = np.split(prediction, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            nll = 0.5 * np.log(2 * np.pi * sigma**2) + 0.5 * ((reference - mean) / sigma) ** 2
        nll[~(sigma > 0)] = np.inf
        return {"count": reference.shape[1], "values": reference.size, "nll": nll.sum()}

    def score(total):
        if not np.isfinite(total["nll"]):
            raise Undefined("a standard deviation is 0 or negative: leave such pixels out with a mask")
        return total["nll"] / total["values"]

    return Measure("NLL", "nat", -math.inf, sums, score)


def calibration_error(levels: int = 9) -> Measure:
    """Expected calibration error of a regression (Kuleshov et al. 2018, with quantiles a = 0.1 .. 0.9).

    The mean over levels of |share of reference values below the predicted a-quantile - a|. The prediction holds
    the means and behind them, in as many bands, the standard deviations.
    """
    at = np.arange(1, levels + 1) / (levels + 1)
    quantiles = [NormalDist().inv_cdf(a) for a in at]

    def sums(patch):
        reference, prediction = patch.pixels()
        mean, sigma = np.split(prediction, 2)
        below = [(reference <= mean + sigma * q).sum() for q in quantiles]
        return {"count": reference.shape[1], "values": reference.size, "below": np.array(below, float)}

    return Measure("ECE", "", 0.0, sums, lambda t: np.abs(t["below"] / t["values"] - at).mean(),
                   settings={"levels": [round(float(a), 6) for a in at]})


def ciede2000(low: tuple[float, float, float], high: tuple[float, float, float], linear: bool = False) -> Measure:
    """Mean colour difference (CIE 142-2001) of red, green and blue, under the D65 white point.

    Args:
        low, high: values of red, green and blue that are shown as black and as full.
        linear: whether the values are proportional to light (reflectance); else they are sRGB as on a screen.
    """
    def sums(patch):
        images = patch.pixels()
        span = np.array(high) - np.array(low)
        total = 0.0
        for first in range(0, images[0].shape[1], 8192):  # what stays in the cache is three times as fast
            shown = (((image[:, first : first + 8192] - np.array(low)[:, None]) / span[:, None]).clip(0, 1)
                     for image in images)
            total += delta_e_2000(*(to_lab(rgb, linear) for rgb in shown)).sum()
        return {"count": images[0].shape[1], "difference": total}

    return Measure("CIEDE2000", "", 0.0, sums, lambda t: t["difference"] / t["count"],
                   settings={"low": low, "high": high, "values": "linear" if linear else "sRGB", "white": "D65"})


_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]])  # IEC 61966-2-1


def to_lab(rgb: np.ndarray, linear: bool = False) -> np.ndarray:
    """CIE L*a*b* (3,n) of red, green and blue (3,n) in [0, 1]."""
    light = rgb if linear else np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = _TO_XYZ @ light / _TO_XYZ.sum(1, keepdims=True)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def delta_e_2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 differences (n,) of L*a*b* colours (3,n): Sharma, Wu and Dalal 2005, eq. 2 to 22."""
    (light1, a1, b1), (light2, a2, b2) = one, other
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = np.where(grey, 0, turn - 360 * (turn > 180) + 360 * (turn < -180))
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    middle = (h1 + h2) / 2 + np.where(np.abs(h1 - h2) > 180, np.where(h1 + h2 < 360, 180, -180), 0)
    middle = np.where(grey, h1 + h2, middle)
    light, c = (light1 + light2) / 2, (c1 + c2) / 2
    t = (1 - 0.17 * np.cos(np.radians(middle - 30)) + 0.24 * np.cos(np.radians(2 * middle))
         + 0.32 * np.cos(np.radians(3 * middle + 6)) - 0.20 * np.cos(np.radians(4 * middle - 63)))
    s_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(
        np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2))))
    x, y, z = (light2 - light1) / s_light, (c2 - c1) / s_c, hue / s_h
    return np.sqrt(np.maximum(x * x + y * y + z * z + rotation * y * z, 0))
