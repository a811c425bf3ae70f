"""What outputs are: grid, dtype, nodata, names and provenance."""

from dataclasses import replace

import numpy as np
import torch

from ..output.profile import OutputSpec, choose_nodata
from ..raster.bands import Band
from ..rounding import to_dtype
from .plan import Plan
from .radiometry import output_bands

_OPAQUE = {"uint16": 65535}  # what GDAL takes for a full alpha; 255 in every other dtype


def describe_output(plan: Plan) -> OutputSpec:
    """Everything about the output but its pixels."""
    raster, manifest = plan.raster, plan.model.manifest
    same = manifest.dtype == "same"
    dtype = raster.dtype if same else manifest.dtype
    nodata = choose_nodata(raster, raster.mask_kind, dtype, exact=manifest.network is None)
    alpha = raster.mask_kind == "alpha"
    gain = _OPAQUE.get(dtype, 255) / _OPAQUE.get(raster.dtype, 255)
    loses_nan = np.dtype(raster.dtype).kind == "f" and np.dtype(dtype).kind != "f" and nodata is None
    return OutputSpec(
        grid=raster.grid.crop(plan.window), bands=output_bands(raster, manifest), dtype=dtype, nodata=nodata,
        mask=raster.mask_kind == "mask" or (loses_nan and not alpha), alpha=alpha, alpha_gain=gain,
        tags={**raster.tags, **provenance(plan)},
        band_tags=raster.band_tags if manifest.network is None else ())


def describe_uncertainty(spec: OutputSpec) -> OutputSpec:
    """The raster of standard deviations that goes with an output."""
    bands = tuple(replace(b, name=f"{b.name or f'band {k + 1}'} standard deviation", colour="undefined",
                          offset=0.0) for k, b in enumerate(spec.bands))
    return replace(spec, bands=bands, dtype="float32", nodata=float("nan"), mask=False, alpha=False, band_tags=())


def describe_confidence(spec: OutputSpec) -> OutputSpec:
    """The raster of confidences that goes with an output: 1 / variance, as the model predicts it."""
    return replace(spec, bands=(Band("confidence"),), dtype="float32", nodata=float("nan"), mask=False, alpha=False,
                   band_tags=())


def stored(pixels: np.ndarray, mask: np.ndarray | None, spec: OutputSpec) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of the output's dtype with nodata in place, and the mask or alpha to be written beside them."""
    if mask is None:
        return pixels, None
    invalid = mask == 0
    if invalid.any():
        pixels[invalid.repeat(pixels.shape[0], 0) if invalid.shape[0] == 1 else invalid] = empty_value(spec)
    mask = mask.max(0, keepdims=True)
    return pixels, to_dtype(torch.from_numpy(mask * spec.alpha_gain), spec.dtype, None) if spec.alpha else mask


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
