"""What must be known of rasters before they are measured: bands that belong together, range, colours, ratio."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine

from ..errors import RasterError
from ..metrics.catalogue import Images
from ..raster.rows import Raster
from ..raster.source import RasterSource

_WIDEST = 1e100


def images_of(mine: Raster, opened: Mapping[str, Raster], aims: Sequence[Raster],
              value_range: tuple[float, float] | None, ratio: float | None, rgb: tuple[int, int, int] | None,
              sensor: str | None, weights: Path | None) -> tuple[Images, str]:
    """The properties that measures are made with, and where the range of values comes from."""
    source = opened.get("source")
    alike = source if source and (source.dtype, len(source.bands)) == (mine.dtype, len(mine.bands)) else None
    norm = opened.get("reference") or (aims[0] if aims else None) or alike or mine
    if value_range:
        (low, high), statement = value_range, "as given"
    elif norm.dtype == "uint8" and all((b.scale, b.offset) == (1, 0) for b in norm.bands):
        low, high, statement = 0.0, 255.0, "all that 8 bits hold"
    else:
        low, high = _percentiles(norm)
        statement = f"the lowest 0.1 and highest 99.9 percentile of the bands of {norm.path}, at reduced size"
    if not high - low < _WIDEST:
        raise RasterError(f"Values from {low:g} to {high:g} are too far apart to be measured: give --range LOW,HIGH.")
    units = {band.unit or "" for band in mine.bands}
    return Images(len(mine.bands), low, high, units.pop() if len(units) == 1 else "",
                  ratio or _ratio(mine, source), _colours(mine, rgb), sensor,
                  weights), statement


def _percentiles(raster: Raster) -> tuple[float, float]:
    try:
        found = raster.statistics((0.1, 99.9)).percentiles
    except RasterError:  # no valid pixel: each metric says so itself
        return 0.0, 1.0
    low, high = float(np.nanmin(found[0.1])), float(np.nanmax(found[99.9]))
    return (low, high) if low < high else (low, low + 1)


def _ratio(mine: Raster, source: Raster | None) -> float:
    """Pixel size of the source over the prediction's."""
    if source is None:
        return 1.0
    sizes = [math.sqrt(abs(r.grid.transform.determinant)) for r in (source, mine)]
    return round(sizes[0] / sizes[1], 6)


def _colours(raster: Raster, rgb: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    count = len(raster.bands)
    if rgb:
        if len(rgb) != 3 or not all(1 <= k <= count for k in rgb):
            raise RasterError(f"--rgb {','.join(map(str, rgb))} does not name three of the {count} bands: give three "
                              f"numbers from 1 to {count}.")
        return rgb[0] - 1, rgb[1] - 1, rgb[2] - 1
    marked = {band.colour: k for k, band in enumerate(raster.bands)}
    if {"red", "green", "blue"} <= set(marked):
        return marked["red"], marked["green"], marked["blue"]
    return (0, 1, 2) if count == 3 else None


def paired_bands(prediction: Raster, other: RasterSource, chosen: tuple[int, ...] | None = None
                 ) -> tuple[RasterSource, str]:
    """The other raster with the bands that those of the prediction are compared with, and what there is to say.

    Raises:
        RasterError: where the counts differ and names do not help.
    """
    if chosen:
        other = other.select(chosen)
    mine, theirs = ([band.name for band in raster.bands] for raster in (prediction, other))
    named = all(mine) and all(theirs) and len(set(theirs)) == len(theirs)
    if not chosen and named and set(mine) <= set(theirs) and mine != theirs:
        picked = tuple(other.indexes[theirs.index(name)] for name in mine)
        return (other.select(picked),
                f"Bands of {other.path} are taken by name: {', '.join(map(str, mine))} are its "
                f"{', '.join(map(str, picked))}.")
    if len(mine) != len(theirs):
        raise RasterError(f"{other.path} has {len(theirs)} bands and the prediction {len(mine)}, without names that "
                          "would tell which belong together: choose them with --bands and --reference-bands.")
    if named and mine != theirs:
        return other, (f"Bands of {other.path} are compared in order, though they have other names: "
                       + ", ".join(f"{a} with {b}" for a, b in zip(mine, theirs)) + ".")
    return other, ""


def limits(raster: Raster) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Physical values at the ends of an integer dtype; a valid pixel never has the value of nodata."""
    if np.dtype(raster.dtype).kind not in "iu":
        return None
    info = np.iinfo(raster.dtype)
    ends = []
    for band in raster.bands:
        low, high = info.min + (band.nodata == info.min), info.max - (band.nodata == info.max)
        ends.append(sorted((low * band.scale + band.offset, high * band.scale + band.offset)))
    return tuple(low for low, _ in ends), tuple(high for _, high in ends)


def has_scale(raster: Raster) -> bool:
    """Whether stored numbers are turned into physical values."""
    return any((band.scale, band.offset) != (1, 0) for band in raster.bands)


def pixel_factor(one: Raster, other: Raster) -> float:
    """How many times as large the larger pixels of two rasters are."""
    sizes = [raster.grid.pixel_size_m or 1.0 for raster in (one, other)]
    return max(sizes) / min(sizes)


def whole_ratio(fused: Raster, ms: Raster, pan: Raster) -> int:
    """How many pixels of PAN one of MS is wide.

    Raises:
        RasterError: where the three do not share one lattice.
    """
    if len(pan.bands) != 1:
        raise RasterError(f"{pan.path} has {len(pan.bands)} bands: name a PAN raster of one band.")
    if not fused.grid.matches(pan.grid):
        raise RasterError(f"The prediction and PAN {pan.path} have different pixels, and QNR and HQNR compare them "
                          "pixel by pixel: reproject one with geoi2i reproject --like.")
    ratio = round(fused.grid.width / ms.grid.width)
    fine = replace(ms.grid, transform=ms.grid.transform @ Affine.scale(1 / max(ratio, 1)),
                   height=ms.grid.height * ratio, width=ms.grid.width * ratio)
    if not fine.matches(fused.grid):
        raise RasterError(f"A pixel of {ms.path} must cover a whole number of the prediction's ({ms.grid.height} x "
                          f"{ms.grid.width} and {fused.grid.height} x {fused.grid.width} pixels): crop both to the "
                          "same extent.")
    if ratio < 2 or ratio & (ratio - 1):
        raise RasterError(f"PAN is {ratio} times as fine as {ms.path}: QNR and HQNR are defined for 2, 4, 8; "
                          "choose other metrics.")
    return ratio
