"""Reprojection in memory, against `rasterio.warp.reproject`: time, and how far from PROJ's positions."""

import numpy as np
import torch

from .common import Job, texture

FASTER, CLOSER = 30, 10
TOLERANCE_PX = 0.125
"""GDAL's own; ours is a tenth of it."""
THREADS = 16


def run(job: Job) -> None:
    """Times on a large raster, errors of position on a small one, and GDAL without its approximation."""
    times = {}
    for kind in ("bilinear", "cubic"):
        if job.fits(kind, 15):
            times[kind] = job.tried(kind, lambda kind=kind: timed(job, kind)) or {}
    found = job.tried("positions", lambda: positions(job)) or {}
    if found.get("geoi2i"):
        ratio = found["rasterio"] / found["geoi2i"]
        job.goal("warp: error of position, rasterio's / ours", f"at least {CLOSER}", ratio, ratio >= CLOSER)
    for kind, seconds in times.items():
        if seconds:
            ratio = seconds["rasterio"] / seconds["geoi2i"]
            job.goal(f"warp, {kind}, resident: rasterio's time / ours", f"at least {FASTER}", ratio, ratio >= FASTER)
    if job.fits("rasterio without approximation", 30):
        job.tried("exact", lambda: exact(job))


def timed(job: Job, kind: str) -> dict[str, float]:
    """Four bands of uint16 from UTM to geographic coordinates."""
    side = job.sizes.warp_px
    source, target = _grids(side)
    piece = np.clip(texture(4, min(side, 2048)) * 1200 + 4000, 1, 9500).astype("uint16")
    pixels = np.tile(piece, (1, side // piece.shape[1], side // piece.shape[2]))
    image = torch.from_numpy(pixels.astype("float32")).to(job.device)
    sent = torch.from_numpy(pixels.view("int16"))
    sent = sent.pin_memory() if not job.toy else sent

    def resident() -> torch.Tensor:
        return _ours(image, source, target, kind)

    def there_and_back() -> None:
        given = sent.to(job.device, non_blocking=True).float()  # no number is above 9500
        _ours(given, source, target, kind).round().to(torch.int16).cpu()

    found = {"geoi2i": job.seconds(resident), "geoi2i, with the copies": job.seconds(there_and_back),
             "rasterio": job.seconds(lambda: _rasterio(pixels, source, target, kind), rounds=1, warm=False)}
    for program, seconds in found.items():
        job.tell(table="warp", resampling=kind, program=program, side_px=side, seconds=seconds,
                 mpx_per_s=target.height * target.width / seconds / 1e6)
    return found


def exact(job: Job) -> None:
    """GDAL asking PROJ for every pixel."""
    side = job.sizes.exact_px
    source, target = _grids(side)
    pixels = np.clip(texture(4, side) * 1200 + 4000, 1, 9500).astype("uint16")
    image = torch.from_numpy(pixels.astype("float32")).to(job.device)
    for program, work in (("geoi2i", lambda: _ours(image, source, target, "bilinear")),
                          ("rasterio, tolerance 0", lambda: _rasterio(pixels, source, target, "bilinear", 0.0))):
        seconds = job.seconds(work, rounds=1)
        job.tell(table="warp", resampling="bilinear", program=program, side_px=side, seconds=seconds,
                 mpx_per_s=target.height * target.width / seconds / 1e6)


def positions(job: Job) -> dict[str, float]:
    """Largest distance (source pixels) of where a program looked from where PROJ points, by a raster that holds its own
    positions."""
    from pyproj import Transformer

    side = job.sizes.exact_px
    source, target = _grids(side)
    row, col = np.mgrid[:side, :side].astype(np.float32) + np.float32(0.5)
    held = np.stack([col, row])
    x, y = target.transform * (np.arange(target.width)[None] + 0.5, np.arange(target.height)[:, None] + 0.5)
    x, y = np.broadcast_arrays(x, y)
    wanted = ~source.transform * Transformer.from_crs(target.crs, source.crs, always_xy=True).transform(x, y)
    inside = (wanted[0] > 1) & (wanted[0] < side - 1) & (wanted[1] > 1) & (wanted[1] < side - 1)
    found = {}
    ours = _ours(torch.from_numpy(held).to(job.device), source, target, "bilinear").cpu().numpy()
    for program, made in (("geoi2i", ours), ("rasterio", _rasterio(held, source, target, "bilinear"))):
        off = np.hypot(made[0] - wanted[0], made[1] - wanted[1])[inside]
        found[program] = float(off.max())
        job.tell(table="positions", program=program, side_px=side, max_px=found[program],
                 p99_px=float(np.percentile(off, 99)))
    return found


def _grids(side: int):
    from geoi2i.core.grid import Grid
    from geoi2i.core.reproject.target_grid import named_crs, target_grid
    from rasterio.transform import from_origin

    source = Grid(named_crs("EPSG:32632").crs, from_origin(500_000, 5_300_000, 10, 10), side, side)
    return source, target_grid(source, named_crs("EPSG:4326"))


def _ours(image: torch.Tensor, source, target, kind: str) -> torch.Tensor:
    from geoi2i.core.reproject.warp import warp
    from geoi2i.core.reproject.warping import Warping

    with torch.inference_mode():
        return warp(image, source, target, Warping(kind, TOLERANCE_PX / CLOSER, antialias=False))[0]


def _rasterio(pixels: np.ndarray, source, target, kind: str, tolerance: float = TOLERANCE_PX) -> np.ndarray:
    from rasterio.warp import Resampling, reproject

    made = np.zeros((len(pixels), target.height, target.width), pixels.dtype)
    reproject(pixels, made, src_transform=source.transform, src_crs=source.crs, dst_transform=target.transform,
              dst_crs=target.crs, resampling=Resampling[kind], num_threads=THREADS, tolerance=tolerance,
              XSCALE=1, YSCALE=1)
    return made
