"""The dtype and the nodata value of an output: those that are asked for, or else what suits its input."""

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from ..errors import RasterError, shorten
from ..nodata import Nodata, as_stored
from ..raster.rows import Raster

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
"""What a GeoTIFF can hold of real numbers."""
MASK = "none"
"""Instead of a nodata value: a mask says which pixels have data."""


@dataclass(frozen=True)
class Storage:
    """The dtype and the nodata value that an output is to have, where they do not follow from its input.

    Raises:
        RasterError: for a dtype that a GeoTIFF cannot hold, or a nodata value that the dtype cannot.
    """

    dtype: str | None = None
    """One of `DTYPES`; None: the input's."""
    nodata: Nodata | str | None = None
    """A number, NaN for floating point, or `MASK`; None: the input's, or another where it does not fit."""

    def __post_init__(self):
        if self.dtype is not None and self.dtype not in DTYPES:
            raise RasterError(f"--dtype {self.dtype} is not a type that can be written: choose from "
                              f"{', '.join(DTYPES)}.")
        if self.dtype:
            self.nodata_of(self.dtype)

    def of(self, dtype: str) -> str:
        """The output's dtype, for numbers of a dtype."""
        return self.dtype or dtype

    def between(self, dtype: str) -> str:
        """What numbers of a dtype are computed as on the way to the output's: it holds both, where one does."""
        source, target = np.dtype(dtype), np.dtype(self.of(dtype))
        wide = np.result_type(source, target)
        integers = source.kind in "iu" and target.kind in "iu"  # of which no type holds all of 64 bits, signed or not
        return dtype if integers and wide.kind == "f" else str(wide)

    def nodata_of(self, dtype: str) -> Nodata | None:
        """The nodata value that is asked for, as pixels of a dtype hold it; None where none is.

        Raises:
            RasterError: where they cannot.
        """
        if self.nodata is None or isinstance(self.nodata, str):
            return None
        kind, value = np.dtype(dtype), self.nodata
        if kind.kind == "f":
            if math.isnan(value) or math.isinf(value):
                return float(value)
            stored = float(as_stored(value, kind))  # type: ignore[arg-type]  # None only for integers and NaN
            if math.isfinite(stored):
                return stored
            allowed = f"a number from {np.finfo(kind).min:.8g} to {np.finfo(kind).max:.8g}, nan"
        else:
            if as_stored(value, kind) is not None:
                return int(value)
            info = np.iinfo(kind)
            allowed = f"a whole number from {info.min} to {info.max}"
        raise RasterError(f"--nodata {shorten(str(value))} does not fit {dtype}: give {allowed}, or {MASK} to write a "
                          "mask.")

    def missing(self, raster: Raster, kinds: tuple[str, ...], exact: bool) -> tuple[Nodata | None, bool]:
        """How the output says where it has no data: its nodata value, and whether it has a mask.

        Args:
            raster: whose pixels, or what is made of them, it holds.
            kinds: how these say it, in the words of `Raster.mask_kinds`.
            exact: whether the output holds the raster's own numbers, none of which may become nodata.
        """
        dtype = self.of(raster.dtype)
        if self.nodata == MASK:
            return None, kinds != ("alpha",)
        if self.nodata is not None:
            return self.nodata_of(dtype), False
        nodata = choose_nodata(raster, dtype, exact) if "nodata" in kinds else None
        loses_nan = np.dtype(raster.dtype).kind == "f" and np.dtype(dtype).kind != "f" and nodata is None
        return nodata, "mask" in kinds or (loses_nan and "alpha" not in kinds) or ("nodata" in kinds and nodata is None)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What is asked for, by names that a person knows; JSON."""
        asked = {"dtype": self.dtype, "nodata": self.nodata}
        return {name: str(value) for name, value in asked.items() if value is not None}

    @property
    def command(self) -> str:
        """As options of the command line."""
        return "".join(f" --{name} {value}" for name, value in self.fingerprint.items())


LIKE_INPUT = Storage()


def read_nodata(text: str) -> Nodata | str:
    """A nodata value from its text: whole numbers exactly, nan and inf, and `MASK`.

    Raises:
        RasterError: for any other text.
    """
    if text.strip().lower() == MASK:
        return MASK
    try:
        number = Decimal(text.strip())
        value = float(number)
    except (InvalidOperation, ValueError):
        raise RasterError(f"--nodata {shorten(text)} is not a number: give one, nan, or {MASK} to write a mask."
                          ) from None
    if not number.is_finite():
        return value
    if math.isinf(value):
        raise RasterError(f"--nodata {shorten(text)} fits no type: give a number that one holds, nan, or {MASK} to "
                          "write a mask.")
    return int(number) if number == number.to_integral_value() else value


def choose_nodata(raster: Raster, dtype: str, exact: bool) -> Nodata | None:
    """The output's one nodata value, for one whose pixels tell by it where they have no data; None where no number is
    left for it, so that a mask has to say so.

    Args:
        exact: whether the output holds the source's own numbers, none of which may become nodata.
    """
    kind = np.dtype(dtype)
    values = list(dict.fromkeys(b.nodata for b in raster.bands if b.nodata is not None))
    if kind.kind == "f":
        declared = [b.nodata for b in raster.bands]
        if not values:
            return float("nan")
        holds = math.isinf(values[0]) or abs(values[0]) <= float(np.finfo(kind).max)
        return values[0] if holds and len(set(map(repr, declared))) == 1 else float("nan")
    info = np.iinfo(kind)
    fitting = [int(v) for v in values if as_stored(v, kind) is not None]
    same_everywhere = len({repr(b.nodata) for b in raster.bands}) == 1
    if fitting and (same_everywhere or not exact):
        return fitting[0]
    return _unused_value(raster, [*fitting, info.min, info.max]) if exact else info.min


def _unused_value(raster: Raster, preferred: list[int]) -> int | None:
    """A value that no valid pixel of any band has, where there is one: one pass over the raster, for mixed nodata only.
    """
    info = np.iinfo(raster.dtype)
    candidates = list(dict.fromkeys([*preferred, *range(info.min, min(info.max, info.min + 65535) + 1)]))
    free = np.array(candidates, raster.dtype)
    for rows in raster.rows():
        mask = np.broadcast_to(rows.mask != 0, rows.pixels.shape) if rows.mask is not None else ...
        free = free[~np.isin(free, rows.pixels[mask])]
    return int(free[0]) if free.size else None
