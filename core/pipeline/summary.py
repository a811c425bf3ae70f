"""What a run is going to do, as lines for a person, before it starts."""

from pathlib import Path

from ..inference.instance_norm import choose_windows
from ..output.needs import describe_needs
from ..reproject.cutline import describe_cutline
from ..reproject.polygons import Polygons
from .plan import Plan
from .translation import Translation


def describe_plan(plan: Plan, target: Path, cutline: Polygons | None = None) -> str:
    """The plan as lines for a person; a cutline that does not meet the output raises RasterError."""
    raster, grid, manifest = plan.raster, plan.raster.original.grid, plan.model.manifest
    job = Translation(plan, target)
    spec = job.outputs[0].spec
    down, across = plan.windows
    steps = len(manifest.table.steps) * plan.options.samples
    tile = plan.tiling.spans(plan.read.height)[0].length, plan.tiling.spans(plan.read.width)[0].length
    size = f"{grid.pixel_size_m:.6g} m" if grid.pixel_size_m else "unknown"
    nodata = " and ".join(raster.mask_kinds) or "none"
    lines = [
        f"input    {raster.path}: {grid.height} x {grid.width} pixels, {len(raster.bands)} bands, {raster.dtype}",
        f"body     {grid.body or 'unknown (no CRS)'}, pixel size {size}, nodata {nodata}",
        f"model    {manifest.name} {manifest.version}: {manifest.title}",
        f"windows  {down} x {across} of {tile[0]} x {tile[1]} pixels, margin {plan.tiling.lattice_margin}, overlap "
        f"{plan.tiling.lattice_overlap}; {steps} network calls each",
        *([f"scale    {manifest.scale} output pixels to each along an axis"] if manifest.scale != 1 else []),
        *describe_cutline(spec.grid, cutline),
        *_arithmetic(plan),
        *_norms(plan),
        *_segments(job),
        *describe_needs(job.needs, target),
        f"output   {target}: {spec.grid.height} x {spec.grid.width} pixels, {len(spec.bands)} bands, {spec.dtype}, "
        f"Cloud Optimized GeoTIFF",
    ]
    return "\n".join([*lines, *(f"note     {warning}" for warning in plan.warnings)])


def _arithmetic(plan: Plan) -> list[str]:
    """Where the network runs, where that is a GPU: what was chosen by what it can."""
    if plan.model.manifest.network is None or plan.device.type == "cpu":
        return []
    return [f"compute  {plan.device}, {plan.options.precision}, {plan.compute.batch} windows at a time"]


def _norms(plan: Plan) -> list[str]:
    """Whose statistics a network uses that normalises over space."""
    if not plan.model.normalises_over_space:
        return []
    if plan.options.norm_statistics == "tile":
        return ["norms    by the statistics of each window"]
    grid = plan.raster.grid
    sample = choose_windows(grid.height, grid.width, plan.model.manifest.multiple_of)
    part = "the whole raster" if sample.share == 1 else (f"{len(sample.windows)} windows, {100 * sample.share:.2g} % "
                                                         "of the raster")
    return [f"norms    by statistics of {part}, the same everywhere"]


def _segments(job: Translation) -> list[str]:
    """How the chain is cut, where it is."""
    segments = job.segments
    if len(segments) == 1:
        return []
    passes, steps = len(segments[0].passes), max(len(segment.steps) for segment in segments)
    each = f"{passes} passes" if passes > 1 else f"one pass and {steps} steps"
    return [f"segments {len(segments)}, of {each} at most: each is spilled to disk for the next"]
