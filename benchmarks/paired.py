"""Paired methods on two sensors' pictures of the same ground, split by geography.

    python benchmarks/paired.py landsat [--steps 600] [--write docs/results/paired_methods.md]
    python benchmarks/paired.py sar     [--steps 600] [--write docs/results/sar_to_optical.md]

`landsat`: Baviaanskloof, South Africa, autumn 2015: Landsat's red, green and blue at 30 m to Sentinel-2's, averaged to
the same pixels. `sar`: Orihuela, Spain, a flood: Sentinel-1's VV, VH and their ratio in decibels to Sentinel-2's red,
green and blue; a demonstration only. The north trains, the south is judged, twenty rows between belong to neither. One
scene each: nothing here says what a model is worth elsewhere. Data: ../shared/data, see GEOI2I_DATA.
"""

import argparse
import datetime
import os
import platform
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from geoi2i.core.errors import RecipeError
from geoi2i.core.metrics import ergas, measured, psnr, rmse, sam, ssim
from geoi2i.core.models.package import ModelPackage, find_model
from geoi2i.core.run import Compute, translate_raster
from geoi2i.training.fit import fit, fit_recipe
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).parent))
from _trials import trained, write_page

COLOURS = ("red", "green", "blue")
PLAIN = {"network": {"name": "plain", "sizes": {"neighbourhood": 5, "squares": 1}}, "bands": {"normalise": "mean_std"},
         "data": {"window_px": 32, "batch": 16, "validation": 0.25}, "budget": {"preview_every": 25}}
"""A network of its own, of which the state ships that is best on a quarter of the north that it is not trained on."""
FULL = {"network": {"sizes": {"width": 24, "blocks": 3, "levels": 0, "embedding": 64}},
        "bands": {"normalise": "mean_std"}}
PAIRED = {
    "plain": ("pix2pix", {"lambda_gan": 0}, PLAIN),
    "regression, identity start": ("pix2pix", {"lambda_gan": 0}, {"network": {"start": "identity"}}),
    "regression at full size": ("pix2pix", {"lambda_gan": 0}, FULL),
    "regression": ("pix2pix", {"lambda_gan": 0}), "pix2pix": ("pix2pix", {"critic_width": 32}),
    "bbdm": ("bbdm", {"steps": 20}), "bbdm, clean head": ("bbdm", {"steps": 20, "head": "clean"}),
    "cbbdm": ("bbdm", {"steps": 20, "sees_source": True}), "i2sb": ("i2sb", {"steps": 10}),
    "i2sb, clean head": ("i2sb", {"steps": 10, "head": "clean"})}
UNPAIRED = {"cyclegan": ("cyclegan", {"critic_width": 32})}


@dataclass(frozen=True)
class Scene:
    """Two sensors' pictures of one place."""

    title: str
    source: str
    target: str
    """Files below the data's folder; a pixel of the source is a whole number of the target's."""
    source_bands: tuple[int, ...]
    target_bands: tuple[int, ...]
    source_range: tuple[float, float]
    target_range: tuple[float, float]
    north: tuple[int, int]
    """Rows that train."""
    south: tuple[int, int]
    names: tuple[str, ...]
    """Of the source's bands as they are given to models."""
    methods: dict
    """Method and settings by name, and what else differs from the shared recipe."""
    bundled: str | None = None
    """A model that comes with geoi2i and never saw the south."""


SCENES = {
    "landsat": Scene(
        "Landsat 8 to Sentinel-2, paired", "cross_sensor/baviaans_2015/landsat8_byte_dev.tif",
        "cross_sensor/baviaans_2015/sentinel2_b432_byte_dev.tif", (4, 3, 2), (1, 2, 3), (0, 160), (0, 160), (0, 200),
        (220, 300), COLOURS, PAIRED, "landsat8-sentinel2"),
    "sar": Scene(
        "SAR to optical: a demonstration", "sar_optical/sen1floods11_spain/Spain_7370579_S1Hand_dev.tif",
        "sar_optical/sen1floods11_spain/Spain_7370579_S2Hand_dev.tif", (1, 2), (4, 3, 2), (-30, 5), (500, 3500),
        (0, 340), (360, 512), ("vv", "vh", "ratio"), UNPAIRED | PAIRED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", choices=list(SCENES))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GEOI2I_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/paired"))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    arguments.runs /= arguments.scene
    arguments.runs.mkdir(parents=True, exist_ok=True)
    scene = SCENES[arguments.scene]
    sides = prepare(scene, arguments.data, arguments.runs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seconds = dict(zip(scene.methods, pool.map(lambda name: train(name, scene, sides, arguments), scene.methods)))
    text = page(scene, arguments, seconds, judged(scene, arguments, sides))
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


def prepare(scene: Scene, data: Path, runs: Path) -> dict[str, tuple[Path, Path]]:
    """Source and target of both parts, on the same pixels."""
    found = {}
    with rasterio.open(data / scene.source) as source, rasterio.open(data / scene.target) as target:
        fine = target.read(scene.target_bands).astype("float32")
        times = target.width // source.width
        coarse = fine.reshape(3, source.height, times, source.width, times).mean((2, 4))
        pixels = source.read(scene.source_bands).astype("float32")
        if len(pixels) == 2:  # decibels: their difference is the ratio
            pixels = np.stack([*pixels, pixels[0] - pixels[1] + scene.source_range[0]])
        for part, (first, stop) in {"north": scene.north, "south": scene.south}.items():
            transform = source.window_transform(Window(0, first, source.width, stop - first))
            found[part] = runs / f"source-{part}.tif", runs / f"target-{part}.tif"
            for path, values, names in zip(found[part], (pixels, coarse), (scene.names, COLOURS)):
                with rasterio.open(path, "w", driver="GTiff", count=3, height=stop - first, width=source.width,
                                   crs=source.crs, dtype="float32", transform=transform) as out:
                    out.write(values[:, first:stop])
                    out.descriptions = names
    return found


def train(name: str, scene: Scene, sides: dict, arguments) -> float:
    """Trains a model that is not there yet, in a process of its own; returns the seconds that it took."""
    method, settings, *more = scene.methods[name]
    source, target = ([{"name": band, "minimum": low, "maximum": high} for band in names]
                      for names, (low, high) in ((scene.names, scene.source_range), (COLOURS, scene.target_range)))
    recipe = {"name": "model", "method": method, "seed": 1, "settings": settings,
              "data": {"source": {"paths": [str(sides["north"][0])]}, "target": {"paths": [str(sides["north"][1])]},
                       "window_px": 64, "batch": 4},
              "bands": {"source": source, "target": target, "dtype": "float32"},
              "network": {"sizes": {"width": 24, "blocks": 3, "levels": 2, "embedding": 64}},
              "optimiser": {"lr": 1e-3}, "budget": {"steps": arguments.steps, "preview_every": arguments.steps}}
    for section, keys in (more[0] if more else {}).items():
        recipe[section] |= keys
    return trained(recipe, folder_of(name, arguments), arguments.device)


def folder_of(name: str, arguments) -> Path:
    return arguments.runs / name.replace(", ", "-").replace(" ", "-")


def judged(scene: Scene, arguments, sides: dict) -> dict[str, dict[str, float]]:
    """Every figure of every image of the south against the target."""
    source, wanted = (read(path) for path in sides["south"])
    images = {"mean colour": np.broadcast_to(read(sides["north"][1]).mean((1, 2), keepdims=True), wanted.shape)}
    models = {name: folder_of(name, arguments) / "model" for name in scene.methods}
    packages = {name: ModelPackage.load(folder) for name, folder in models.items() if folder.is_dir()}
    if scene.bundled:
        images = {"identity": source, **images}
        packages[f"{scene.bundled} (bundled)"] = find_model(scene.bundled)
    for name, package in {**closed_forms(sides["north"], arguments.runs), **packages}.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "out.tif"
            translate_raster(str(sides["south"][0]), path, package, compute=Compute(device=arguments.device))
            images[name] = read(path)
    valid, span = np.isfinite(wanted).all(0) & np.isfinite(source).all(0), np.ptp(scene.target_range)
    kinds = {"PSNR": psnr(span), "SSIM": ssim(span), "RMSE": rmse(), "SAM": sam(), "ERGAS": ergas(1.0)}
    return {name: {kind: measured(measure, wanted, image, valid) for kind, measure in kinds.items()}
            for name, image in images.items()}


def closed_forms(north: tuple[Path, Path], runs: Path) -> dict[str, ModelPackage]:
    """Models that are solved for on the north, which a network must beat; the terms of the last are chosen there."""
    kinds = {"moment matching": ("moments", {}), "transport": ("transport", {}), "histograms": ("histogram", {}),
             "linear fit of all bands": ("linear", {"sizes": {}}),
             "linear fit, 5 x 5": ("linear", {"sizes": {"neighbourhood": 5}}),
             "linear fit, 5 x 5 and squares": ("linear", {"sizes": {"neighbourhood": 5, "squares": 1}}),
             "linear fit, means over 3, 7, 15, 31 and squares": ("linear", {"sizes": {
                 "squares": 1, "mean_1": 3, "mean_2": 7, "mean_3": 15, "mean_4": 31}}),
             "linear fit, terms chosen": ("linear", {})}
    found = {}
    for name, (kind, settings) in kinds.items():
        folder = runs / "fits" / name.replace(", ", "-").replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        recipe = fit_recipe(kind, "fit", (str(north[0]),), (str(north[1]),), {"bands.dtype": "float32"})
        try:
            found[name], made = fit(kind, recipe, folder, **settings)
        except RecipeError as error:
            print(f"{name}: {error}")
            continue
        for terms, error in made.table:
            print(f"  {error:.4f}  {terms}")
    return found


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as data:
        return data.read().astype(float)


def page(scene: Scene, arguments, seconds: dict[str, float], rows: dict[str, dict[str, float]]) -> str:
    lines = [f"# {scene.title}", "",
             f"`python benchmarks/paired.py {arguments.scene} --steps {arguments.steps}`, {datetime.date.today()}, "
             f"{platform.machine()}, one thread a training, device {arguments.device}, torch {torch.__version__}. "
             f"{arguments.steps} steps of 4 windows of 64 pixels; the same generator for all but plain and full "
             "size, and all begin at a closed form unless said. Judged on the south, "
             "trained on the north of one scene: nothing here says what a model is worth elsewhere.", "",
             f"| | {' | '.join(next(iter(rows.values())))} | training |", "|---|---|---|---|---|---|---|"]
    digits = {"PSNR": 2, "SSIM": 4, "RMSE": 2, "SAM": 2, "ERGAS": 2}
    for name, row in rows.items():
        took = f"{seconds[name]:.0f} s" if name in seconds else "-"
        lines.append(f"| {name} | {' | '.join(f'{value:.{digits[kind]}f}' for kind, value in row.items())} | {took} |")
    failed = [name for name, value in seconds.items() if value != value]
    return "\n".join([*lines, "", *([f"Did not come to an end: {', '.join(failed)}.", ""] if failed else [])])


if __name__ == "__main__":
    main()
