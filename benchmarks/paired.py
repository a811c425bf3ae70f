"""Paired methods on Landsat 8 and Sentinel-2 of the same ground, split by geography.

    python benchmarks/paired.py [--steps 1500] [--write docs/results/paired_methods.md]

Baviaanskloof, South Africa, autumn 2015: Landsat's red, green and blue at 30 m to Sentinel-2's, averaged to the same
pixels. The north trains, the south is judged, twenty rows between belong to neither. One scene: nothing here says what
a model is worth elsewhere. Data: ../shared/data/cross_sensor, see GEOI2I_DATA.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import torch
from geoi2i.core.metrics import ergas, measured, psnr, rmse, sam, ssim
from geoi2i.core.package import ModelPackage
from geoi2i.core.run import Options, translate_raster
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).parent))
from _trials import trained, write_page

NORTH, SOUTH = (0, 200), (220, 300)
"""Rows at 30 m."""
BANDS = (4, 3, 2)
"""Of the Landsat file: red, green and blue."""
METHODS = {
    "regression": ("pix2pix", {"lambda_gan": 0}), "pix2pix": ("pix2pix", {"critic_width": 32}),
    "bbdm": ("bbdm", {"steps": 20}), "bbdm, clean head": ("bbdm", {"steps": 20, "head": "clean"}),
    "cbbdm": ("bbdm", {"steps": 20, "sees_source": True}), "i2sb": ("i2sb", {"steps": 10}),
    "i2sb, clean head": ("i2sb", {"steps": 10, "head": "clean"})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--device", default="cpu")
    data = Path(os.environ.get("GEOI2I_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data / "cross_sensor" / "baviaans_2015")
    parser.add_argument("--runs", type=Path, default=Path("runs/paired"))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    sides = prepare(arguments.data, arguments.runs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seconds = dict(zip(METHODS, pool.map(lambda name: train(name, sides, arguments), METHODS)))
    text = page(arguments, seconds, judged(arguments, sides))
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


def prepare(data: Path, runs: Path) -> dict[str, tuple[Path, Path]]:
    """Source and target of both parts, on the same pixels."""
    found = {}
    with rasterio.open(data / "landsat8_byte_dev.tif") as landsat, \
            rasterio.open(data / "sentinel2_b432_byte_dev.tif") as sentinel:
        fine = sentinel.read().astype("float32")
        coarse = fine.reshape(3, fine.shape[1] // 3, 3, fine.shape[2] // 3, 3).mean((2, 4))
        for part, (first, stop) in {"north": NORTH, "south": SOUTH}.items():
            window = Window(0, first, landsat.width, stop - first)
            facts = dict(driver="GTiff", count=3, height=stop - first, width=landsat.width, crs=landsat.crs,
                         dtype="float32", transform=landsat.window_transform(window))
            found[part] = runs / f"landsat-{part}.tif", runs / f"sentinel-{part}.tif"
            for path, pixels in zip(found[part], (landsat.read(BANDS, window=window), coarse[:, first:stop])):
                with rasterio.open(path, "w", **facts) as out:
                    out.write(pixels.astype("float32"))
                    out.descriptions = ("red", "green", "blue")
    return found


def train(name: str, sides: dict, arguments) -> float:
    """Trains a model that is not there yet, in a process of its own; returns the seconds that it took."""
    method, settings = METHODS[name]
    output = arguments.runs / name.replace(", ", "-").replace(" ", "-")
    band = [{"name": c, "minimum": 0, "maximum": 160, "colour": c} for c in ("red", "green", "blue")]
    recipe = {"name": "model", "method": method, "seed": 1, "settings": settings,
              "data": {"source": {"paths": [str(sides["north"][0])]}, "target": {"paths": [str(sides["north"][1])]},
                       "window_px": 64, "batch": 4},
              "bands": {"source": band, "target": band, "dtype": "float32"},
              "network": {"sizes": {"width": 24, "blocks": 3, "levels": 2, "embedding": 64}},
              "optimiser": {"lr": 1e-3}, "budget": {"steps": arguments.steps, "preview_every": arguments.steps}}
    return trained(recipe, output, arguments.device)


def judged(arguments, sides: dict) -> dict[str, dict[str, float]]:
    """Every figure of every image of the south against Sentinel-2."""
    source, wanted = (read(path) for path in sides["south"])
    images = {"identity": source, **baselines(sides["north"], source)}
    for name in METHODS:
        model = arguments.runs / name.replace(", ", "-").replace(" ", "-") / "model"
        if model.is_dir():
            with tempfile.TemporaryDirectory() as folder:
                path, options = Path(folder) / "out.tif", Options(device=arguments.device)
                translate_raster(str(sides["south"][0]), path, ModelPackage.load(model), options)
                images[name] = read(path)
    valid = np.ones(wanted.shape[1:], bool)
    kinds = {"PSNR": psnr(160), "SSIM": ssim(160), "RMSE": rmse(), "SAM": sam(), "ERGAS": ergas(1.0)}
    return {name: {kind: measured(measure, wanted, image, valid) for kind, measure in kinds.items()}
            for name, image in images.items()}


def baselines(north: tuple[Path, Path], pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What needs no network: moments and a linear fit of each band, from the north."""
    source, target = (read(path) for path in north)
    gain = target.std((1, 2), keepdims=True) / source.std((1, 2), keepdims=True)
    matched = gain * (pixels - source.mean((1, 2), keepdims=True)) + target.mean((1, 2), keepdims=True)
    lines = [np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(source, target)]
    mixed, *_ = np.linalg.lstsq(np.vstack([source.reshape(3, -1), np.ones(source[0].size)]).T,
                                target.reshape(3, -1).T, rcond=None)
    every = np.vstack([pixels.reshape(3, -1), np.ones(pixels[0].size)]).T @ mixed
    return {"moment matching": matched, "linear fit, band by band": np.stack([np.polyval(*each)
            for each in zip(lines, pixels)]), "linear fit of all bands": every.T.reshape(pixels.shape)}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as data:
        return data.read().astype(float)


def page(arguments, seconds: dict[str, float], rows: dict[str, dict[str, float]]) -> str:
    lines = ["# Landsat 8 to Sentinel-2, paired", "",
             f"`python benchmarks/paired.py --steps {arguments.steps}`, {datetime.date.today()}, {platform.machine()}, "
             f"one thread a training, device {arguments.device}, torch {torch.__version__}. {arguments.steps} steps of "
             "4 windows of 64 pixels; the same generator for all. Judged on the south, trained on the north of one "
             "scene: nothing here says what a model is worth elsewhere.", "",
             f"| | {' | '.join(next(iter(rows.values())))} | training |", "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        took = f"{seconds[name]:.0f} s" if name in seconds else "-"
        digits = {"PSNR": 2, "SSIM": 4, "RMSE": 2, "SAM": 2, "ERGAS": 2}
        lines.append(f"| {name} | {' | '.join(f'{value:.{digits[kind]}f}' for kind, value in row.items())} | {took} |")
    failed = [name for name, value in seconds.items() if value != value]
    return "\n".join([*lines, "", *([f"Did not come to an end: {', '.join(failed)}.", ""] if failed else [])])


if __name__ == "__main__":
    main()
