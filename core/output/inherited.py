"""What an output takes over from its input beside the pixels, and what of that it cannot hold."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..raster.bands import Domains
from ..raster.rows import Raster
from .metadata import RPC_DOMAIN, XMP_DOMAIN, shifted, well_formed
from .profile import OutputSpec

Thing = TypeVar("Thing")
_OF_THE_GRID = {RPC_DOMAIN, "GEOLOCATION"}
"""Domains that say where the pixels of one grid are."""


def in_order(raster: Raster, bands: Sequence[Thing], alphas: Sequence[Thing]) -> tuple[Thing, ...]:
    """What belongs to bands and to the alpha bands, one for each: in the order of the raster's file where the bands are
    as many and in its order, else the alpha bands last."""
    indexes = raster.original.indexes
    if len(bands) != len(indexes) or list(indexes) != sorted(indexes):
        return *bands, *alphas
    places = [*indexes, *raster.original.alphas]
    return tuple(thing for _, thing in sorted(zip(places, (*bands, *alphas)), key=lambda pair: pair[0]))


def kept_domains(raster: Raster, row: int = 0, col: int = 0, resampled: bool = False) -> Domains:
    """The tags of all domains but the first that hold for an output.

    Args:
        row, col: where the part of the raster begins that the output shows.
        resampled: whether its pixels are not the file's.
    """
    resampled = resampled or raster is not raster.original
    domains = {name: tags for name, tags in raster.original.domains.items() if name}
    rpc = domains.get(RPC_DOMAIN)
    if resampled or row or col:
        domains = {name: tags for name, tags in domains.items() if name not in _OF_THE_GRID}
    if rpc and not resampled:
        domains[RPC_DOMAIN] = shifted(rpc, row, col)
    return domains


def stored_alike(spec: OutputSpec, raster: Raster, exact: bool) -> OutputSpec:
    """An output of the raster's numbers, which are shown as the raster's are where the dtype is: the least as white.

    Args:
        exact: whether they are those very numbers, which then take as few bits.
    """
    structure, alone = raster.original.structure, len(spec.bands) == 1
    bits = int(structure["NBITS"]) if structure.get("NBITS", "").isdecimal() else 0
    few = exact and alone and 0 < bits < 8 and spec.dtype == "uint8" and bool(spec.bands[0].colours) and (
        spec.nodata is None or 0 <= spec.nodata < 1 << bits)
    white = alone and structure.get("MINISWHITE") == "YES" and spec.dtype in raster.original.dtypes
    return replace(spec, bits=bits if few else None, minimum_is_white=white)


def what_is_lost(raster: Raster, spec: OutputSpec) -> str | None:
    """One sentence on what a raster says that the output cannot; None where it says all."""
    lost = []
    kinds = {np.dtype(dtype) for dtype in raster.original.dtypes}
    if any(kind.kind in "iu" and kind.itemsize == 8 for kind in kinds) and np.dtype(raster.dtype).kind == "f":
        lost.append("64-bit integers, which become floating point")
    tables = [k + 1 for k, band in enumerate(spec.bands) if band.colours and k]
    if tables:
        lost.append(f"the colour table of band {', '.join(map(str, tables))}, of which only the first band has one")
    by_band = "nodata" in raster.mask_kinds or (  # NaN
        np.dtype(raster.dtype).kind == "f" and np.dtype(spec.dtype).kind != "f")
    if by_band and spec.nodata is None and spec.mask and len(spec.values) > 1:
        lost.append("where single bands lack data, which one mask for all of them does not say")
    for name, tags in raster.original.domains.items():
        if (name.startswith("xml:") and name != XMP_DOMAIN and not well_formed(tags.get(name, ""))) or (
                name.startswith("json:") and not tags[name]):
            lost.append(f"the tags of {name}")
        elif name in _OF_THE_GRID and name not in spec.domains:
            lost.append(f"the tags of {name}, which hold for the input's grid only")
    if not lost:
        return None
    return f"{raster.path} holds what the output does not: {'; '.join(lost)}."
