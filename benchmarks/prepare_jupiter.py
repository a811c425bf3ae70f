"""Brings the JunoCam mosaics and the Hubble OPAL map of Jupiter onto one grid, for the bundled model.

    python benchmarks/prepare_jupiter.py --data DATA/jupiter --output runs/jupiter-data

Both become 0.25 degree maps, planetocentric latitude, east longitude -180..180. The Hubble map comes in
planetographic latitude and east longitude 0..360, and is degraded to a stated resolution, coarser than
JunoCam's, because that gap is what SP-I2I is about.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from affine import Affine
from geoi2i.core.grid import Grid, Window
from geoi2i.core.output.execute import save_raster
from geoi2i.core.output.profile import OutputSpec
from geoi2i.core.raster.bands import Band
from geoi2i.core.raster.rows import Rows
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.warp import warp
from geoi2i.core.reproject.warping import Warping

TARGET_FWHM_DEG = 1.0
"""Resolution of the degraded Hubble map: four JunoCam pixels."""
PIXEL_DEG = 0.25
POLE_DEG = 75.0
"""The Hubble map is filled in beyond this planetographic latitude."""
BACKGROUND = 3
"""Some mosaics have a background of 1..3 instead of 0."""


def prepare_source(path: Path, output: Path) -> Grid:
    """One mosaic with its background masked."""
    source = RasterSource.open(path)
    rows = source.read(Window(0, 0, source.grid.height, source.grid.width))
    valid = rows.pixels.max(0, keepdims=True) > BACKGROUND
    if rows.mask is not None:
        valid &= rows.mask != 0
    _write(output, source.grid, rows.pixels, valid, source.tags)
    return source.grid


def prepare_target(path: Path, output: Path, like: Grid) -> None:
    """The Hubble map, blurred to `TARGET_FWHM_DEG` and sampled on the grid of the mosaics."""
    source = RasterSource.open(path)
    rows = source.read(Window(0, 0, source.grid.height, source.grid.width))
    step_deg = source.grid.transform.a
    image = torch.from_numpy(rows.pixels.astype(np.float32))
    image = blur(image, TARGET_FWHM_DEG / 2.3548 / step_deg)
    rows_of = np.arange(source.grid.height) + 0.5
    shown = np.abs(source.grid.latitudes(rows_of, np.zeros_like(rows_of))) <= POLE_DEG
    known = torch.from_numpy(shown)[None, :, None].expand(1, source.grid.height, source.grid.width)
    sampled, exists = warp(image, source.grid, like, Warping("bilinear", tolerance_px=0.001), known)
    tags = {"SENSOR": "HST WFC3/UVIS", "LATITUDE": "planetocentric", "LONGITUDE": "east positive",
            "RESOLUTION": f"degraded to {TARGET_FWHM_DEG} degrees (FWHM of a Gaussian)"}
    _write(output, like, np.rint(sampled.numpy()).astype(np.uint8), exists.numpy(), tags)


def blur(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Gaussian blur of a global map (C,h,w): wraps in longitude, reflects at the poles."""
    radius = math.ceil(4 * sigma_px)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(image[:, None], (radius, radius, 0, 0), mode="circular")
    x = F.pad(x, (0, 0, radius, radius), mode="reflect")
    x = F.conv2d(x, kernel[None, None, :, None])
    return F.conv2d(x, kernel[None, None, None, :])[:, 0]


def _write(path: Path, grid: Grid, pixels: np.ndarray, valid: np.ndarray, tags: dict[str, str]) -> None:
    bands = tuple(Band(name, colour=name) for name in ("red", "green", "blue"))
    pixels = np.where(valid, pixels, 0).astype(np.uint8)
    rows = Rows(0, pixels, np.ascontiguousarray(valid).astype(np.uint8) * 255)
    save_raster(path, OutputSpec(grid, bands, "uint8", mask=True, tags=tags), [rows], overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with junocam_mosaics_geotiff and hst_opal")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    (arguments.output / "junocam").mkdir(parents=True, exist_ok=True)
    grid = None
    for path in sorted((arguments.data / "junocam_mosaics_geotiff").glob("PJ*.tif")):
        grid = prepare_source(path, arguments.output / "junocam" / path.name)
    expected = Affine(PIXEL_DEG, 0, -180, 0, -PIXEL_DEG, 90)
    if grid is None or not grid.transform.almost_equals(expected) or grid.latitude != "planetocentric":
        raise SystemExit("The mosaics are not 0.25 degree planetocentric maps: this script does not apply.")
    prepare_target(arguments.data / "hst_opal" / "opal_2017a_rgb_0p1deg.tif", arguments.output / "opal.tif", grid)
    print(f"Prepared in {arguments.output}")


if __name__ == "__main__":
    main()
