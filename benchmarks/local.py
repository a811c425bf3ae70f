"""Gains and offsets that change over the map, beside homonim's, on a real pair, as it is and under made haze.

    python benchmarks/local.py [--homonim .../bin/homonim] [--write docs/results/local.md]

Sentinel-2's red, green and blue at 10 m, 8 bits, are corrected against a reference at 30 m: Baviaanskloof, South
Africa, autumn 2015. Haze is made on Sentinel-2: light of 200 counts comes in, and of what is below 100 % gets through
in the north-west and 60 % in the south-east.
`Landsat`, `Landsat, haze`: the reference is Landsat 8's image. One in four blocks of 600 m of it is held out of the
fit; there the corrected image, averaged to 30 m, is compared with it. homonim gives no values where its reference has
none. `itself, haze`: the reference is the image before the haze, averaged to 30 m; the corrected image is compared with
it at 10 m. Figures are RMSE in counts. homonim (github.com/leftfield-geospatial/homonim) is run by its command line,
from an environment of its own. Data: ../shared/data, see GEOI2I_DATA.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from geoi2i.core.run import Compute, translate_raster
from geoi2i.training.fit import fit, fit_recipe

sys.path.insert(0, str(Path(__file__).parent))
from _trials import write_page

FOLDER = "cross_sensor/baviaans_2015"
BLOCK, AIR, HAZIEST, NODATA = 20, 200.0, 0.6, -1.0
OURS = {"one gain and offset": {"cells": 1, "smoothing": 1e6}, **{
    f"fit local --cells {cells} --smoothing {smoothing:g}": {"cells": cells, "smoothing": smoothing}
    for cells, smoothing in ((4, 0.1), (8, 1), (8, 0.1), (8, 0.01), (16, 0.1), (32, 1), (32, 0.1), (32, 0.01))}}
PEERS = {f"homonim {model}, kernel {side}": (model, side)
         for model, sides in (("gain", (5, 15)), ("gain-blk-offset", (5, 15)), ("gain-offset", (5, 15, 31, 61)))
         for side in sides}


@dataclass(frozen=True)
class Case:
    """What is corrected against what, and where it is compared with what."""

    source: Path
    reference: Path
    truth: np.ndarray
    """(3,h,w)."""
    judged: np.ndarray
    """Where (h,w)."""

    def error(self, path: Path) -> float:
        """RMSE of an image; NaN where it has too few values."""
        with rasterio.open(path) as data:
            pixels = data.read((1, 2, 3), masked=True).astype(float).filled(np.nan)
        times = pixels.shape[1] // len(self.judged)
        pixels = pixels.reshape(3, len(self.judged), times, -1, times).mean((2, 4))
        there = self.judged & np.isfinite(pixels).all(0)
        if there.sum() < 0.95 * self.judged.sum():
            return float("nan")
        return float(np.sqrt(np.mean((pixels - self.truth)[:, there] ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homonim", metavar="PROGRAM", help="its command line; without it only ours is measured")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page that gets the table")
    parser.add_argument("--data", type=Path, metavar="DIR", default=os.environ.get("GEOI2I_DATA", "../shared/data"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = prepare(Path(arguments.data) / FOLDER, Path(folder))
        columns = [measured(case, Path(folder) / f"made{k}", arguments.homonim)
                   for k, case in enumerate(cases.values())]
    lines = ["| | " + " | ".join(cases) + " | seconds |", "|---|" + "---|" * (len(cases) + 1)]
    for name in columns[0]:
        errors = (f"{column[name][0]:.2f}".replace("nan", "-") for column in columns)
        lines.append(f"| {name} | {' | '.join(errors)} | {columns[0][name][1]:.1f} |")
    print("\n".join(lines))
    if arguments.write:
        about = __doc__.split("\n\n", 2)[2].strip()
        write_page(arguments.write, "\n\n".join([
            "# Gains and offsets over a map", f"`python benchmarks/local.py`, {datetime.date.today()}, "
            f"{platform.machine()}, {os.cpu_count()} cores.", about, "\n".join(lines)]))


def prepare(data: Path, folder: Path) -> dict[str, Case]:
    """The cases by their names."""
    with rasterio.open(data / "landsat8_byte_dev.tif") as given:
        landsat, known = given.read((4, 3, 2)).astype("float32"), given.dataset_mask() != 0
        coarse = given.transform
    with rasterio.open(data / "sentinel2_b432_byte_dev.tif") as given:
        clean, fine, crs = given.read().astype("float32"), given.transform, given.crs
    rows, cols = np.indices(known.shape) // BLOCK
    held = (rows % 2 == 1) & (cols % 2 == 1)
    row, col = np.indices(clean.shape[1:])
    through = 1 - (1 - HAZIEST) * (row / row.max() + col / col.max()) / 2

    def write(name: str, pixels: np.ndarray, transform) -> Path:
        with rasterio.open(folder / name, "w", driver="GTiff", crs=crs, transform=transform, dtype="float32", count=3,
                           height=pixels.shape[1], width=pixels.shape[2], nodata=NODATA, photometric="RGB") as out:
            out.write(pixels.astype("float32"))
        return folder / name

    plain, hazy = write("s.tif", clean, fine), write("h.tif", clean * through + AIR * (1 - through), fine)
    holes = write("l.tif", np.where(held | ~known, NODATA, landsat), coarse)
    means = write("m.tif", clean.reshape(3, known.shape[0], 3, known.shape[1], 3).mean((2, 4)), coarse)
    return {"Landsat": Case(plain, holes, landsat, held & known),
            "Landsat, haze": Case(hazy, holes, landsat, held & known),
            "itself, haze": Case(hazy, means, clean, np.ones(clean.shape[1:], bool))}


def measured(case: Case, folder: Path, homonim: str | None) -> dict[str, tuple[float, float]]:
    """RMSE and seconds of each way."""
    folder.mkdir()
    found = {"no correction": (case.error(case.source), 0.0)}
    for name, settings in OURS.items():
        started, out = time.monotonic(), folder / f"{len(found)}.tif"
        recipe = fit_recipe("local", "model", (str(case.source),), (str(case.reference),), {"data.match_grid": "true"})
        package, _ = fit("local", recipe, folder / f"m{len(found)}", **settings)
        translate_raster(str(case.source), out, package, compute=Compute(device="cpu"))
        found[name] = case.error(out), time.monotonic() - started
    for name, (model, side) in PEERS.items() if homonim else ():
        started, out = time.monotonic(), folder / f"h{len(found)}"
        out.mkdir()
        subprocess.run([homonim, "fuse", "-m", model, "-k", str(side), str(side), "-od", str(out), "--dtype", "float32",
                        str(case.source), str(case.reference)], check=True, capture_output=True)
        made, = out.glob("*FUSE*.tif")
        found[name] = case.error(made), time.monotonic() - started
    return found


if __name__ == "__main__":
    main()
