"""What a translation depends on and what it will take, by its plan."""

import hashlib
import math
from dataclasses import asdict
from typing import Any

import torch

from ..device import worker_count
from ..memory import available_memory
from ..models.package import ModelPackage
from ..output.needs import Needs, disk_bytes, writing_bytes
from ..output.profile import OutputSpec
from ..raster.source import absolute
from .plan import Plan
from .segments import Segment, cut

_FULL_PX = 6 << 20
"""Pixels of a batch that keep a large GPU busy: sixteen windows of 512 with a margin of 32, say."""


def fingerprint(plan: Plan) -> dict[str, Any]:
    """All that the pixels of a translation depend on, by names a person knows; JSON.

    A resumed run has the bits of one that was not interrupted, so what changes the rounding is in it as well.
    """
    from ... import __version__

    manifest, window, tiling = plan.model.manifest, plan.window, plan.tiling
    resolved = {"tile": tiling.tile, "overlap": tiling.overlap, "steps": len(manifest.table.steps)}
    return {
        "input": absolute(plan.raster.path), "files": plan.raster.stamps(),
        "bands": plan.raster.original.indexes,
        "model": f"{manifest.name} {manifest.version}",
        "manifest": _digest(plan.model), "weights": (manifest.weights_sha256 or "none")[:16],
        "rows": [window.row, window.height], "columns": [window.col, window.width],
        "first x": plan.raster.grid.transform.c,  # longitudes may be counted from elsewhere
        **{name.replace("_", " "): value for name, value in (asdict(plan.options) | resolved).items()},
        "batch": plan.compute.batch, "compiled": plan.compute.compile, "device": plan.device.type,
        "geoi2i": __version__, "torch": torch.__version__}


def estimate_needs(plan: Plan, specs: tuple[OutputSpec, ...], segments: tuple[Segment, ...], left: int) -> Needs:
    """Memory and disk that a translation takes.

    Args:
        specs: of the outputs.
        left: bytes of the largest that a segment leaves on the disk for the next.
    """
    device = plan.device
    workers = worker_count(device) if device.type == "cpu" else 0  # windows on a GPU take none of this memory
    pixels, disk = disk_bytes(specs, plan.raster.compressed())
    # Each worker holds the widest activations of one batch.
    return Needs(streaming_bytes(plan, segments) + writing_bytes(specs), window_bytes(plan) * plan.batch *
                 workers, pixels, disk + 2 * left, plan.model.weights_bytes)


def window_bytes(plan: Plan) -> int:
    """Memory that the network takes for one window: about its widest activations, six times over."""
    network = plan.model.manifest.codec or plan.model.manifest.network
    depth = dict(network.sizes).get("width", 64) if network else _channels(plan)
    return 4 * _window_px(plan) * depth * 6


def choose_batch(plan: Plan) -> int:
    """How many windows the network takes at a time where nobody says: one on a CPU, which works at several windows side
    by side; on a GPU what fits into a quarter of the memory that is free, and no more than fill it."""
    if plan.device.type == "cpu" or plan.model.manifest.network is None:
        return 1
    return batch_within(torch.cuda.mem_get_info(plan.device)[0], window_bytes(plan), _window_px(plan),
                        math.prod(plan.windows))


def batch_within(free: int, window_bytes: int, window_px: int, windows: int) -> int:
    """Windows at a time on a GPU, a power of two, so that a resumed run mostly finds the same.

    Args:
        free: bytes of the GPU's memory.
        window_bytes: what one window takes.
        window_px: pixels of one window.
        windows: how many there are in all.
    """
    most = min(free // 4 // window_bytes, _FULL_PX // window_px, windows)
    return 1 << max(most, 1).bit_length() - 1


def _window_px(plan: Plan) -> int:
    """Pixels of the largest window, with its margins."""
    return (_tile(plan) + 2 * plan.tiling.lattice_margin) ** 2


def streaming_bytes(plan: Plan, segments: tuple[Segment, ...]) -> int:
    """Memory of rows on their way, which are held as floats, several times over: as they come, are filled, made and
    stored."""
    width = plan.read.width
    coming = 4 * plan.raster.rows_at_once(width) + (7 * _tile(plan) if step_bytes(plan) else 0)
    return (step_bytes(plan) * max(segment.work for segment in segments) + 4 * _channels(plan) * width * coming
            + plan.raster.reading_bytes(width))


def _tile(plan: Plan) -> int:
    """The longest side of a window, without margin."""
    return max(plan.tiling.spans(size)[0].length for size in (plan.read.height, plan.read.width))


def _channels(plan: Plan) -> int:
    return max(plan.model.manifest.source_bands, len(plan.model.manifest.bands_out))


def plan_segments(plan: Plan) -> tuple[Segment, ...]:
    """The segments that the chain of a plan is made in."""
    if plan.copies:
        return (plan.whole,)
    steps, passes = len(plan.whole.steps), len(plan.whole.passes)
    if plan.model.manifest.codec:  # steps on latents are small, and what they work on is not left in pixels
        return tuple(Segment(plan.whole.steps, range(k, k + 1)) for k in range(passes))
    free = torch.cuda.mem_get_info(plan.device)[0] if plan.device.type == "cuda" else available_memory()
    tile = plan.tiling.spans(plan.read.height)[0].length if step_bytes(plan) else 0
    return cut(steps, passes, plan.read.height, tile + 2 * plan.tiling.lattice_margin, step_bytes(plan), free)


def step_bytes(plan: Plan) -> int:
    """What one step of one pass holds: a tile row with its margins, as input, as strip and pending."""
    manifest, tiling, read = plan.model.manifest, plan.tiling, plan.read
    if manifest.network is None:
        return 0
    channels: float = max(manifest.source_bands, len(manifest.bands_out))
    if manifest.codec:
        channels = manifest.codec.sizes.latents / manifest.codec.factor**2
    return int(4 * channels * read.width) * (5 * tiling.spans(read.height)[0].length + 6 * tiling.lattice_margin)


def _digest(model: ModelPackage) -> str:
    """Of the manifest, and of those of the models before."""
    text = "".join(each.manifest.model_dump_json() for each in model.chain())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
