"""What a translation depends on and what it will take, by its plan."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from ..device import choose_device, worker_count
from ..grid import Window
from ..inference.fill import fill_window
from ..inference.instance_norm import Norms, choose_windows, measure
from ..memory import available_memory
from ..models.package import ModelPackage
from ..output.needs import Needs, disk_bytes, writing_bytes
from ..output.profile import OutputSpec
from ..raster.source import absolute
from .plan import Options, Plan
from .radiometry import to_device
from .segments import Leg, cut


def fingerprint(plan: Plan, options: Options) -> dict[str, Any]:
    """All that the pixels of a translation depend on, by names a person knows; JSON."""
    from ... import __version__

    manifest = plan.model.manifest
    window = plan.window
    return {
        "input": absolute(plan.raster.path), "files": plan.raster.stamps(),
        "bands": plan.raster.original.indexes,
        "model": f"{manifest.name} {manifest.version}",
        "manifest": _digest(plan.model), "weights": (manifest.weights_sha256 or "none")[:16],
        "rows": [window.row, window.height], "columns": [window.col, window.width],
        "matched grid": options.match_grid, "restored grid": options.restore_grid,
        "tile": plan.tiling.tile, "overlap": plan.tiling.overlap, "batch": options.batch,
        "precision": options.precision, "device": choose_device(options.device).type,
        "norm statistics": options.norm_statistics, "held to the input": options.consistent,
        "power to decibels": options.decibels,
        "seed": options.seed, "samples": options.samples, "geoi2i": __version__, "torch": torch.__version__}


def estimate_needs(plan: Plan, options: Options, specs: tuple[OutputSpec, ...], legs: tuple[Leg, ...], left: int
                   ) -> Needs:
    """Rows on their way are held as floats, several times over: as they come, are filled, made and stored. Each
    worker holds the widest activations of one batch."""
    manifest = plan.model.manifest
    tiling, width = plan.tiling, plan.read.width
    tile = max(spans[0].length for spans in (tiling.spans(plan.read.height), tiling.spans(width)))
    channels = max(len(manifest.bands_in), len(manifest.bands_out))
    network = manifest.codec or manifest.network
    depth = dict(network.sizes).get("width", 64) if network else channels
    window = (tile + 2 * tiling.lattice_margin) ** 2
    device = choose_device(options.device)
    workers = worker_count(device) if device.type == "cpu" else 0  # windows on a GPU take none of this memory
    held = step_bytes(plan) * max(leg.work for leg in legs)
    pixels, disk = disk_bytes(specs, plan.raster.compressed())
    coming = 4 * plan.raster.rows_at_once(width) + (7 * tile if step_bytes(plan) else 0)
    return Needs(held + 4 * channels * width * coming + plan.raster.reading_bytes(width) + writing_bytes(specs),
                 4 * window * depth * 6 * options.batch * workers, pixels, disk + 2 * left,
                 plan.model.weights_bytes)


def chain_legs(plan: Plan, options: Options) -> tuple[Leg, ...]:
    """The legs that the chain of a plan is made in."""
    device = choose_device(options.device)
    if plan.model.manifest.codec:  # steps on codes are small, and what they work on is not left in pixels
        return tuple(Leg(range(len(plan.model.manifest.table.steps)), range(k, k + 1))
                     for k in range(options.samples))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    tile = plan.tiling.spans(plan.read.height)[0].length if step_bytes(plan) else 0
    return cut(len(plan.model.manifest.table.steps), options.samples, plan.read.height,
               tile + 2 * plan.tiling.lattice_margin, step_bytes(plan), free)


def step_bytes(plan: Plan) -> int:
    """What one step of one pass holds: a tile row with its margins, as input, as strip and pending."""
    manifest, tiling, read = plan.model.manifest, plan.tiling, plan.read
    if manifest.network is None:
        return 0
    channels = max(len(manifest.bands_in), len(manifest.bands_out))
    if manifest.codec:
        channels = manifest.codec.sizes.latents / manifest.codec.factor**2
    return int(4 * channels * read.width) * (5 * tiling.spans(read.height)[0].length + 6 * tiling.lattice_margin)


def measure_norms(plan: Plan, options: Options, leg: Leg) -> tuple[Norms, ...] | None:
    """The statistics for each pass of a leg, where the network wants them."""
    manifest = plan.model.manifest
    if not plan.model.normalises_over_space or options.norm_statistics == "tile":
        return None
    device = choose_device(options.device)
    network = plan.model.translator(device, options.precision, plan.tiling).network
    size = plan.raster.grid.height, plan.raster.grid.width  # of all, so that an extent has the pixels of the whole

    def source(window: Window) -> tuple[Tensor, Tensor]:
        rows = plan.raster.read(window)
        pixels = plan.radiometry.from_stored(to_device(rows.pixels, device))
        if rows.mask is None or rows.mask.all():
            return pixels, torch.ones_like(pixels[:1])
        valid = to_device(rows.mask, device).amin(0, keepdim=True) != 0
        return fill_window(pixels, valid, plan.radiometry.fill.to(device)), valid

    small = plan.raster.original.decimated().mask if plan.raster.mask_kind != "none" else None
    sample = choose_windows(*size, manifest.multiple_of, None if small is None else (small != 0).all(0))
    return tuple(measure(network, manifest.table, sample, source, size, seed=options.seed, number=number,
                         device=device) for number in leg.passes)


def _digest(model: ModelPackage) -> str:
    """Of the manifest, and of those of the models before."""
    text = "".join(each.manifest.model_dump_json() for each in model.line())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
