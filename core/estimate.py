"""What a run will need: windows, memory and disk, before it starts."""

import shutil
from pathlib import Path

from .device import choose_device, worker_count
from .output import describe_output


def memory_bytes(plan, options) -> int:
    """Estimate of the peak memory of a run, from its shapes.

    Each stage holds a tile row with its margins (input, strip and pending rows); each worker holds the
    widest activations of one batch; the reader and the writer hold some pieces of rows.
    """
    manifest = plan.model.manifest
    tiling = plan.tiling
    span = tiling.spans(plan.read.height)[0].length
    side = max(s[0].length for s in (tiling.spans(plan.read.height), tiling.spans(plan.read.width)))
    channels = max(len(manifest.bands_in), len(manifest.bands_out))
    rows = 3 * (span + 2 * tiling.lattice_margin) + 2 * span
    stages = len(manifest.table.steps) * options.samples
    streams = 4 * channels * plan.read.width * rows * stages
    width = manifest.network.sizes.get("width", 64) if manifest.network else channels
    window = (side + 2 * tiling.lattice_margin) ** 2
    workers = worker_count(choose_device(options.device))
    activations = 4 * window * width * 6 * options.batch * workers
    return int(350e6 + streams + activations)


def describe_plan(plan, options, target: Path) -> str:
    """The plan as lines for a person."""
    raster, grid, manifest = plan.raster, plan.raster.grid, plan.model.manifest
    spec = describe_output(raster, manifest, plan.window, options)
    down, across = plan.windows
    steps = len(manifest.table.steps) * options.samples
    folder = next((p for p in [target.parent, *target.parent.parents] if p.exists()), Path("."))
    free = shutil.disk_usage(folder).free
    tile = plan.tiling.spans(plan.read.height)[0].length, plan.tiling.spans(plan.read.width)[0].length
    size = f"{grid.pixel_size_m:.6g} m" if grid.pixel_size_m else "unknown ground size"
    lines = [
        f"input    {raster.path}: {grid.height} x {grid.width} pixels, {len(raster.bands)} bands, {raster.dtype}",
        f"grid     {grid.body or 'no coordinate system'}, pixels of {size}, no data by {raster.mask_kind}",
        f"model    {manifest.name} {manifest.version}: {manifest.title}",
        f"windows  {down} x {across} of {tile[0]} x {tile[1]} pixels, margin {plan.tiling.lattice_margin}, overlap "
        f"{plan.tiling.lattice_overlap}; {steps} network calls each",
        f"memory   about {memory_bytes(plan, options) / 1e6:.0f} MB",
        f"disk     at most {8 / 3 * spec.raw_bytes / 1e6:.1f} MB while it runs; {free / 1e6:.0f} MB are free",
        f"output   {target}: {spec.grid.height} x {spec.grid.width} pixels, {len(spec.bands)} bands, {spec.dtype}, "
        f"Cloud Optimized GeoTIFF",
    ]
    return "\n".join([*lines, *(f"note     {warning}" for warning in plan.warnings)])
