"""CPU against GPU: bundled models in every arithmetic, warps, metrics; the largest error of each."""

import itertools
import math

import numpy as np
import torch

from .common import Forced, Job, compile_options, texture

GOAL = 1e-4
"""Of the range, in fp32."""
_PLAIN, _LAST = torch.contiguous_format, torch.channels_last
WAYS = {"fp32": ("fp32", _PLAIN, ""), "fp32, channels_last": ("fp32", _LAST, ""),
        "TF32, channels_last": ("tf32", _LAST, ""), "bf16": ("bf16", _PLAIN, ""),
        "bf16, channels_last": ("bf16", _LAST, ""), "fp16, channels_last": ("fp16", _LAST, ""),
        "fp32, CUDA graph": ("fp32", _LAST, "graph"), "bf16, CUDA graph": ("bf16", _LAST, "graph"),
        "bf16, torch.compile": ("bf16", _LAST, "compile"), "fp32, torch.compile": ("fp32", _LAST, "compile")}
"""To run a network: arithmetic, memory layout, and how its kernels are launched; what takes longest last."""
_METRICS_PX = 256


def run(job: Job) -> None:
    """Models as they are run, their networks alone, warps, and what metrics say of both results."""
    from geoi2i.core.models.folders import BUNDLED
    from geoi2i.core.models.package import ModelPackage

    packages = [ModelPackage.load(path.parent) for path in sorted(BUNDLED.glob("*/manifest.json"))]
    found = [job.tried(package.manifest.name, lambda package=package: models(job, package)) for package in packages]
    worst = max(math.inf if share is None else share for share in found)
    job.goal("agreement of every bundled model in fp32, share of the range", f"at most {GOAL:g}", worst, worst <= GOAL)
    job.tried("warp", lambda: warps(job))
    for way, package in itertools.product(WAYS, packages):
        what = f"{way} of {package.manifest.name}"
        if job.fits(what, 30 if "compile" in way else 2):
            job.tried(what, lambda way=way, package=package: network(job, package, way))


def models(job: Job, package) -> float:
    """A bundled model over a raster, as `geoi2i run` makes it but unrounded; returns the error in fp32, as a share."""
    from geoi2i.core.run import Compute, Options

    name, span = package.manifest.name, _span(package)
    path = _raster(job, package)
    exact = translated(path, package, Options(precision="fp32"), Compute(device="cpu"))
    kinds = {"fp32": {}, "fp32, batch 8": {"batch": 8}, "bf16": {"precision": "bf16"}, "fp16": {"precision": "fp16"},
             "auto": {"precision": "auto", "batch": None}}
    share, made = float("nan"), {}
    for kind, chosen in kinds.items():
        options = Options(precision=chosen.get("precision", "fp32"))
        made[kind] = translated(path, package, options, Compute(str(job.device), chosen.get("batch", 1)))
        error = float((made[kind] - exact).abs().max())
        job.tell(table="models", model=name, arithmetic=kind, max_error_dn=error, share_of_range=error / span)
        share = error / span if kind == "fp32" else share
    job.tried(f"metrics of {name}", lambda: metrics(job, name, path, exact, made))
    return share


def translated(path: str, package, options, compute) -> torch.Tensor:
    """The translation (C,h,w) in stored numbers, unrounded, on the CPU."""
    from geoi2i.core.pipeline.passes import run_passes, whole_input
    from geoi2i.core.run import plan_translation

    plan = plan_translation(path, package, options, compute)
    with torch.inference_mode():
        parts = [plan.radiometry.to_stored(moments)[0].cpu() for _, moments in
                 run_passes(plan, whole_input(plan), (0, plan.read.height), lambda share: None)]
    return torch.cat(parts, 1)


def network(job: Job, package, way: str) -> None:
    """One window through the network alone."""
    from geoi2i.core.device import PRECISIONS
    from geoi2i.core.models.package import at_precision

    manifest, (arithmetic, layout, how) = package.manifest, WAYS[way]
    if how == "graph" and job.toy:
        return job.tell(table="left out", what=f"{way} of {manifest.name}", why="CUDA graphs need a GPU")
    side = manifest.multiple_of * max(1, job.sizes.agreement_px // manifest.multiple_of)
    image = torch.from_numpy(texture(manifest.channels[0], side)[None]).clamp(-3, 3) / 3
    with torch.inference_mode(), Forced(arithmetic == "tf32"):
        exact, shown = _call(package.network(), image), image.to(job.device)
        ready = at_precision(package.network(), PRECISIONS.get(arithmetic, torch.float32))
        ready = ready.to(job.device, memory_format=layout)
        if how == "compile":
            ready = torch.compile(ready, **compile_options(job))
        elif how == "graph":
            ready = graphed(ready, shown)
        error = float((_call(ready, shown).cpu() - exact).abs().max()) / 2
        job.tell(table="networks", model=manifest.name, way=way, window_px=side, share_of_range=error,
                 ms=1e3 * job.seconds(lambda: _call(ready, shown)))


def graphed(network, image):
    """A network whose kernels are launched all at once, for windows of one shape."""
    still, stream = image.clone(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            _call(network, still)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = _call(network, still)

    def replay(shown, time, style):
        still.copy_(shown)
        graph.replay()
        return out

    replay.style_size = getattr(network, "style_size", 0)
    return replay


def warps(job: Job) -> None:
    """Every resampling on both devices, of a picture and of a raster that holds its own positions."""
    from geoi2i.core.grid import Grid
    from geoi2i.core.reproject.target_grid import named_crs, target_grid
    from geoi2i.core.reproject.warp import warp
    from geoi2i.core.reproject.warping import RESAMPLING, Warping
    from rasterio.transform import from_origin

    side = job.sizes.agreement_px
    source = Grid(named_crs("EPSG:32632").crs, from_origin(500_000, 5_300_000, 10, 10), side, side)
    target = target_grid(source, named_crs("EPSG:3857"))
    picture = torch.from_numpy(np.clip(texture(2, side) * 40 + 128, 0, 255))
    row, col = torch.meshgrid(*(torch.arange(side) + 0.5,) * 2, indexing="ij")
    image = torch.cat([picture, torch.stack([col, row])])
    for kind in RESAMPLING:
        one, known = warp(image, source, target, Warping(kind))
        other, there = (t.cpu() for t in warp(image.to(job.device), source, target, Warping(kind)))
        off = (one - other).abs().amax((1, 2))
        job.tell(table="warp", resampling=kind, max_error_dn=float(off[:2].max()),
                 share_of_range=float(off[:2].max()) / 255, max_error_px=float(off[2:].max()),
                 pixels_of_one_only=int((known != there).sum()))


def metrics(job: Job, model: str, path: str, exact: torch.Tensor, made: dict[str, torch.Tensor]) -> None:
    """How far a metric of the result moves where the result comes from the device (metrics themselves are float64 on
    the CPU)."""
    import rasterio
    from geoi2i.core.errors import Geoi2iError
    from geoi2i.core.metrics import Undefined, measured
    from geoi2i.core.metrics.catalogue import METRICS, Images

    part = np.s_[:, :_METRICS_PX, :_METRICS_PX]
    with rasterio.open(path) as data:
        reference = data.read()[part].astype("float64")
    images = Images(len(reference), 0.0, 255.0, colours=(0, 1, 2))
    for name, metric in METRICS.items():
        try:
            measure = metric.make(images)
        except (Undefined, Geoi2iError) as error:
            job.tell(table="left out", what=name, why=str(error).splitlines()[0][:160])
            continue
        if metric.kind == "pan":
            job.tell(table="left out", what=name, why="of pansharpened images")
            continue

        def score(values: torch.Tensor, kind: str = metric.kind, measure=measure) -> float:
            values = values[part].double().numpy()
            values = np.concatenate([values, np.full_like(values, 5)]) if kind == "uncertainty" else values
            return measured(measure, values if kind == "alone" else reference, values)

        here = score(exact)
        job.tell(table="metrics", model=model, metric=name, cpu=here,
                 **{f"{kind} - cpu": score(made[kind]) - here for kind in ("fp32", "bf16")})


def _call(network, image: torch.Tensor) -> torch.Tensor:
    size = getattr(network, "style_size", 0)
    style = torch.ones(len(image), size, device=image.device) if size else None
    return network(image, torch.zeros(len(image), device=image.device), style)


def _span(package) -> float:
    """Of the output's numbers."""
    return max(band.maximum - band.minimum for band in package.manifest.bands_out)


def _raster(job: Job, package) -> str:
    """A picture in the range of a model's bands."""
    import rasterio
    from rasterio.transform import from_origin

    manifest, side = package.manifest, job.sizes.agreement_px
    path = job.folder / f"{manifest.name}.tif"
    values = texture(len(manifest.bands_in), side)
    low, high = (np.array([getattr(band, end) for band in manifest.bands_in])[:, None, None]
                 for end in ("minimum", "maximum"))
    pixels = np.clip((low + high) / 2 + values * (high - low) / 6, low, high).astype("uint8")
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=side, width=side, dtype="uint8",
                       crs="EPSG:32632", transform=from_origin(500_000, 5_300_000, 30, 30)) as out:
        out.write(pixels)
        out.descriptions = [band.name for band in manifest.bands_in]
    return str(path)
