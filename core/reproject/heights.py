"""Heights of a raster in another vertical CRS, where PROJ can convert them; never a vertical CRS that is not theirs."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pyproj import CRS, Transformer
from pyproj.crs import CompoundCRS
from pyproj.exceptions import CRSError, ProjError

from ..grid import Grid, parse_crs
from ..raster.bands import Band
from .coordinates import between, crs_of

_NAMES = re.compile(r"(?<![a-z])(heights?|elevations?|altitudes?|dem|dsm|dtm)(?![a-z])")
_CHUNK_PX = 1 << 18
_LENGTHS = ("m", "metre", "meter", "metres", "meters", "ft", "foot", "feet", "us-ft", "us survey foot", "ftus")


@dataclass(frozen=True)
class Heights:
    """From heights of a raster to those of the grid that it is seen on."""

    source: Grid
    target: Grid
    bands: tuple[int, ...]
    """Which of the raster's are heights, from 0."""
    given_in: str
    """WKT2 of the CRS in which positions and the raster's heights are given to PROJ."""

    def convert(self, values: np.ndarray, row: int, bands: tuple[Band, ...]) -> np.ndarray:
        """Rows (C,h,W) of stored floating numbers, the first of them `row` of the target, with heights converted; NaN
        where PROJ cannot."""
        values = values.copy()
        _, height, width = values.shape
        for top in range(0, height, step := max(1, _CHUNK_PX // width)):
            part = slice(top, top + step)
            rows = np.arange(row + top, row + min(top + step, height)) + 0.5
            col, line = np.meshgrid(np.arange(width) + 0.5, rows)
            x, y = self.places(*(self.target.transform * (col.ravel(), line.ravel())))
            for k in self.bands:
                scale, offset = bands[k].scale, bands[k].offset
                z = values[k, part].ravel().astype(float) * scale + offset
                z = np.asarray(self.transformer.transform(x, y, z)[2])
                values[k, part] = np.where(np.isfinite(z), (z - offset) / scale, np.nan).reshape(col.shape)
        return values

    @cached_property
    def places(self):
        """From the target's (x, y) to those that PROJ is given."""
        return between(self.target, self.source) if _is_3d(parse_crs(self.given_in)) else lambda x, y: (x, y)

    @cached_property
    def transformer(self) -> Transformer:
        return Transformer.from_crs(CRS.from_wkt(self.given_in), CRS.from_wkt(self.target.crs), always_xy=True,
                                    allow_ballpark=False)

    def reaches(self) -> bool:
        """Whether PROJ can convert heights anywhere in the target."""
        x, y = (values.ravel() for values in np.meshgrid(*(np.linspace(0.05, 0.95, 5) * size for size in (
            self.target.width, self.target.height))))
        try:
            z = self.transformer.transform(*self.places(*(self.target.transform * (x, y))), np.zeros_like(x))[2]
        except (ProjError, CRSError):
            return False
        return bool(np.isfinite(z).any())

    def units(self, bands: tuple[Band, ...]) -> tuple[Band, ...]:
        """The bands with the units of the converted heights, where they had any of length."""
        unit = crs_of(self.target).axis_info[2].unit_name
        return tuple(replace(band, unit=unit) if k in self.bands and (band.unit or "").lower() in _LENGTHS else band
                     for k, band in enumerate(bands))


def heights_between(bands: tuple[Band, ...], source: Grid, target: Grid) -> tuple[Grid, Heights | None, str]:
    """What becomes of the heights in a raster on another grid.

    Returns:
        The grid, whose vertical CRS is that of the heights; how to convert them, None where they stay; and what is to
        be said of that.
    """
    have, wanted = (_vertical(parse_crs(grid.crs)) for grid in (source, target))
    if wanted is None or have == wanted:
        return target, None, ""
    flat = _flat(parse_crs(target.crs))
    if have is None:
        return (_with_crs(target, flat), None, "The raster does not say what its heights count from: the output's CRS "
                f"is {flat.name}, without {_name(wanted)}.")
    as_it_was = flat if _is_3d(have) else CompoundCRS(f"{flat.name} + {have.name}", [flat, have])
    kept = f"the heights stay as they are, in {_name(have)}, and the output's CRS is {as_it_was.name}"
    named = tuple(k for k, band in enumerate(bands) if _NAMES.search((band.name or "").lower()))
    chosen = (0,) if len(bands) == 1 else named
    if not chosen:
        return (_with_crs(target, as_it_was), None, "No band is named as a height, elevation or altitude: "
                f"{kept}.")
    given_in = crs_of(source) if _is_3d(have) else as_it_was
    heights = Heights(source, target, chosen, given_in.to_wkt("WKT2_2019"))
    if not heights.reaches():
        return (_with_crs(target, as_it_was), None, f"PROJ cannot convert heights from {_name(have)} to "
                f"{_name(wanted)} here, for want of a grid of the geoid perhaps (projsync installs them): {kept}.")
    return target, heights, ""


def _is_3d(crs: CRS) -> bool:
    return not crs.is_compound and len(crs.axis_info) == 3


def _vertical(crs: CRS | None) -> CRS | None:
    """The vertical part of a CRS, or the whole of one whose third axis is the height above the ellipsoid."""
    if crs is None:
        return None
    if crs.is_compound:
        return next((part for part in crs.sub_crs_list if part.is_vertical), None)
    return crs.to_3d() if _is_3d(crs) else None


def _flat(crs: CRS) -> CRS:
    return crs.sub_crs_list[0] if crs.is_compound else crs.to_2d()


def _with_crs(grid: Grid, crs: CRS) -> Grid:
    return replace(grid, crs=crs.to_wkt("WKT2_2019"))


def _name(vertical: CRS) -> str:
    return f"heights above the ellipsoid of {vertical.name}" if _is_3d(vertical) else vertical.name
