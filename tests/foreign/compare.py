"""How a raster that geoi2i wrote differs from the one that GDAL's own programs wrote of the same input."""

import numpy as np
import rasterio
from pyproj import CRS

_CLOSE = {"identity": 0.0, "reproject": 1.0}
"""Counts of an integer, or thousandths of the range of floats, that a pixel may be off."""
_FEW = 0.01
"""Share of pixels at borders that two resamplers may judge differently."""


def compare(made: str, reference: str, job: str) -> dict:
    """What differs: `differs`, the aspects with both values; `pixels`, how far the pixels are off.

    A reference of a job that makes pixels without data may have one more band, alpha, which says where they are.
    """
    with rasterio.open(made) as a, rasterio.open(reference) as b:
        alpha = job == "reproject" and b.count == a.count + 1 and b.colorinterp[-1].name == "alpha"
        bands = b.count - alpha
        aspects = {name: (read(a, a.count), read(b, bands)) for name, read in _ASPECTS.items()}
        differs = {name: [str(x)[:200], str(y)[:200]] for name, (x, y) in aspects.items() if x != y}
        if "bands" in differs:  # what there is of each is then another matter
            differs = {name: differs[name] for name in ("size", "bands", "CRS", "geotransform") if name in differs}
        if alpha:  # the reference says otherwise where it has no data
            differs.pop("nodata", None)
        if job == "reproject":  # gdalwarp drops these, and calls the first band of several grey
            differs = {name: values for name, values in differs.items() if not (
                (name in ("units", "band names") and not any(aspects[name][1]))
                or (name == "colours" and aspects[name][1][:1] == ["gray"] and aspects[name][0][0] == "undefined"))}
        if "CRS" in differs and _same_crs(a.crs, b.crs):
            del differs["CRS"]
        if "geotransform" in differs and np.allclose(*aspects["geotransform"], rtol=1e-12, atol=1e-9):
            del differs["geotransform"]
        pixels = {}
        if not {"size", "bands"} & set(differs):
            pixels = _pixels(a, b, job, alpha)
            limit = 0.0 if job == "identity" else _FEW
            if pixels["share_mask"] > limit:
                differs["mask"] = [a.count, b.count]
            if pixels["share_values"] > limit:
                differs["values"] = [pixels["largest"], pixels["share_values"]]
    return {"differs": differs, "pixels": pixels}


def _nodata(data, bands: int) -> str:
    """Nodata values by their text; where a mask or an alpha band says it, the mask is compared."""
    return str([None if value is None else float(value) for value in data.nodatavals[:bands]])


def _palette(data, bands: int) -> dict | None:
    try:
        return data.colormap(1) if data.colorinterp[0].name == "palette" else None
    except ValueError:
        return None


_ASPECTS = {
    "size": lambda data, n: (data.height, data.width), "bands": lambda data, n: n,
    "dtype": lambda data, n: data.dtypes[:n], "CRS": lambda data, n: data.crs.to_wkt() if data.crs else None,
    "geotransform": lambda data, n: tuple(data.transform)[:6], "nodata": _nodata,
    "colours": lambda data, n: [colour.name for colour in data.colorinterp[:n]], "palette": _palette,
    "scale and offset": lambda data, n: (data.scales[:n], data.offsets[:n]),
    "units": lambda data, n: [unit or None for unit in data.units[:n]],
    "band names": lambda data, n: data.descriptions[:n]}


def _same_crs(a, b) -> bool:
    """Whether PROJ takes both for one CRS, whatever the order of its axes."""
    try:
        return CRS.from_wkt(a.to_wkt()).equals(CRS.from_wkt(b.to_wkt()), ignore_axis_order=True)
    except Exception:  # without a CRS, or one that PROJ cannot hold
        return False


def _pixels(a, b, job: str, alpha: bool) -> dict:
    """Shares of pixels whose validity and whose values differ, and the largest difference of valid ones."""
    wrong_mask = wrong = both = total = 0
    largest = 0.0
    for k in a.indexes:
        x, y, valid_x = a.read(k), b.read(k), a.read_masks(k) != 0
        valid_y = b.read(b.count) != 0 if alpha else b.read_masks(k) != 0
        total += x.size
        wrong_mask += int((valid_x != valid_y).sum())
        valid = valid_x & valid_y
        both += int(valid.sum())
        if job == "identity":
            same = (x == y) | ((x != x) & (y != y))
            wrong += int((~same & valid).sum())
        if not valid.any():
            continue
        u, v = (values[valid].astype(np.complex128 if values.dtype.kind == "c" else np.float64) for values in (x, y))
        off = np.abs(u - v)
        off = off[np.isfinite(off)]
        largest = max(largest, float(off.max(initial=0)))
        if job != "identity":
            scale = 1.0 if x.dtype.kind in "iu" else max(np.ptp(np.abs(v)) / 1000, np.abs(v).max() * 1e-6)
            wrong += int((off > _CLOSE[job] * scale).sum())
    return {"share_mask": round(wrong_mask / max(total, 1), 6), "share_values": round(wrong / max(both, 1), 6),
            "largest": largest, "valid": both}
