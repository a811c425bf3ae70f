"""What outputs are: grid, dtype, nodata, names and provenance; and their rows as they are stored."""

from dataclasses import replace

import numpy as np
import torch

from ..nodata import as_stored
from ..output.inherited import in_order, kept_domains, stored_alike
from ..output.profile import OutputSpec
from ..output.storage import Storage
from ..raster.bands import Band
from ..raster.rows import Raster, Rows
from ..rounding import converted, to_dtype
from .plan import Plan
from .radiometry import output_bands

_OPAQUE = {"uint16": 65535}  # what GDAL takes for a full alpha; 255 in every other dtype


def describe_output(plan: Plan) -> OutputSpec:
    """Everything about the output but its pixels."""
    raster, manifest = plan.raster, plan.model.manifest
    storage = Storage(None if manifest.dtype == "same" else manifest.dtype)
    nodata, mask = storage.missing(raster, raster.mask_kinds, exact=manifest.network is None)
    spec = OutputSpec(
        grid=raster.grid.crop(plan.window), dtype=storage.of(raster.dtype), nodata=nodata, mask=mask,
        bands=in_order(raster, output_bands(raster, manifest), raster.alpha_bands),
        tags={**raster.tags, **provenance(plan)},
        domains=kept_domains(raster, plan.window.row, plan.window.col))
    return stored_alike(spec, raster, exact=True) if plan.copies else spec


def describe_uncertainty(spec: OutputSpec) -> OutputSpec:
    """The raster of standard deviations that goes with an output."""
    bands = tuple(replace(spec.bands[place], name=f"{spec.bands[place].name or f'band {k + 1}'} standard deviation",
                          colour="undefined", offset=0.0, domains={}) for k, place in enumerate(spec.values))
    return replace(spec, bands=bands, dtype="float32", nodata=float("nan"), mask=False)


def describe_confidence(spec: OutputSpec) -> OutputSpec:
    """The raster of confidences that goes with an output: 1 / variance, as the model predicts it."""
    return replace(spec, bands=(Band("confidence"),), dtype="float32", nodata=float("nan"), mask=False)


def stored(rows: Rows, spec: OutputSpec) -> Rows:
    """Computed rows, of the output's dtype, as they are written: nodata in place, every band in its, and the mask."""
    pixels, mask, alpha = rows.pixels, rows.mask, rows.alpha
    if mask is not None:
        invalid = mask == 0
        if invalid.any():
            pixels[invalid.repeat(pixels.shape[0], 0) if invalid.shape[0] == 1 else invalid] = empty_value(spec)
        mask = mask.max(0, keepdims=True)
        if alpha is not None and spec.mask_kinds == ("alpha",):  # and nothing else to say so
            alpha = np.where(mask != 0, alpha, 0)
    return Rows(rows.row, _placed(pixels, alpha, spec), mask, rows.undefined, clipped=rows.clipped)


def copied(rows: Rows, raster: Raster, spec: OutputSpec) -> Rows:
    """Rows of a raster as they are written where nothing is computed: every number as it is, but for a band's nodata
    where the bands differ in it."""
    for k, band in enumerate(raster.bands):
        own = as_stored(band.nodata, rows.pixels.dtype)
        if own is not None and spec.nodata is not None and not own == as_stored(spec.nodata, rows.pixels.dtype):
            rows.pixels[k][rows.pixels[k] == own] = spec.nodata
    mask = None if rows.mask is None else rows.mask.max(0, keepdims=True)
    masked_only = "nodata" in raster.mask_kinds and spec.nodata is None
    return Rows(rows.row, _placed(rows.pixels, rows.alpha, spec), mask, rows.undefined,
                mask_band=None if masked_only else rows.mask_band)


def _placed(pixels: np.ndarray, alpha: np.ndarray | None, spec: OutputSpec) -> np.ndarray:
    """Pixels (C,h,w) and alpha bands (A,h,w), each where it stands in the output."""
    if not spec.alphas:
        return pixels
    whole = np.empty((len(spec.bands), *pixels.shape[1:]), pixels.dtype)
    whole[list(spec.values)], whole[list(spec.alphas)] = pixels, alpha
    return whole


def as_dtype(rows: Rows, source: str, dtype: str) -> Rows:
    """Rows with numbers of another dtype, as GDAL converts them, and where they were clipped.

    Args:
        rows: with a mask.
        source: dtype of the raster whose alpha values they have.
    """
    if source == dtype:
        return rows
    pixels, beyond = converted(rows.pixels, dtype)
    clipped = None if beyond is None or rows.mask is None else (beyond & (rows.mask != 0)).any(0, keepdims=True)
    return replace(rows, pixels=pixels, alpha=alpha_as(rows.alpha, source, dtype), clipped=clipped)


def alpha_as(alpha: np.ndarray | None, source: str, dtype: str) -> np.ndarray | None:
    """Alpha values of one dtype as another has them, opaque as opaque; none becomes 0 that is not."""
    if alpha is None or source == dtype:
        return alpha
    gain = _OPAQUE.get(dtype, 255) / _OPAQUE.get(source, 255)
    scaled = to_dtype(torch.from_numpy(alpha.astype("float64") * gain), dtype, None)
    return np.where((alpha != 0) & (scaled == 0) & (np.dtype(dtype).kind != "f"), 1, scaled).astype(dtype)


def empty_value(spec: OutputSpec) -> float:
    """What stands in a pixel without data."""
    return spec.nodata if spec.nodata is not None else float("nan") if spec.dtype.startswith("f") else 0


def provenance(plan: Plan) -> dict[str, str]:
    """Tags that say how the output came about; nothing that differs between equal runs."""
    from ... import __version__

    manifest, raster, window, options = plan.model.manifest, plan.raster, plan.window, plan.options
    command = f"geoi2i run --model {manifest.name} --bands {','.join(map(str, raster.original.indexes))}"
    command += f" --seed {options.seed} --samples {options.samples}"
    command += f" --steps {options.steps}" if options.steps else ""
    command += f" --precision {options.precision}" if options.precision != "fp32" else ""
    command += f" --input-scale {options.input_scale:g}" if options.input_scale else ""
    command += " --input-range {:g},{:g}".format(*options.input_range) if options.input_range else ""
    command += "".join(f" --{name}" for name, chosen in (
        ("match-model-grid", options.match_grid), ("restore-grid", options.restore_grid),
        ("back-project", options.back_project), ("to-db", options.to_db),
        ("norm-statistics tile", options.norm_statistics == "tile")) if chosen)
    if (window.height, window.width) != (raster.grid.height, raster.grid.width):
        command += f" (rows {window.row}+{window.height}, columns {window.col}+{window.width})"
    return {"GEOI2I_VERSION": __version__, "GEOI2I_MODEL": f"{manifest.name} {manifest.version}",
            "GEOI2I_MODEL_SHA256": manifest.weights_sha256 or "none", "GEOI2I_SEED": str(options.seed),
            "GEOI2I_COMMAND": command,
            **({"GEOI2I_INPUT_MODEL": manifest.input_model} if manifest.input_model else {})}
