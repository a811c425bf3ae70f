"""What a model that was trained on degraded images is worth on those of the real sensor (Mind the Gap, 2026).

    case     trained on            judged on            asks for
    I        degraded -> fine      degraded -> fine     what the method can do
    II       the models of I       real -> fine         what is lost: the gap II - I
    III      real -> fine          real -> fine         what pairs of both sensors give
    III-h    as III, each band of the real images fitted to the degraded ones first: radiometry without resolution

All see the same windows, network, optimiser, steps and seeds. The scene is split by geography: the north trains, the
south is judged tile by tile, and rows between belong to neither.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ..core.errors import RecipeError
from ..core.evaluation.evaluate import EvaluationOptions
from ..core.evaluation.setup import images_of
from ..core.grid import Grid, Window
from ..core.metrics import Measure, Undefined, measured
from ..core.metrics.catalogue import METRICS
from ..core.models.normalisers import RangeNormaliser
from ..core.models.package import ModelPackage
from ..core.output.execute import save_raster
from ..core.output.profile import OutputSpec
from ..core.raster.bands import Band
from ..core.raster.rows import Rows, SeekableRaster
from ..core.raster.source import RasterSource
from ..core.reproject.warp import warp
from ..core.reproject.warped_raster import finer, resampled_to
from ..core.reproject.warping import Warping
from ..core.run import Compute, translate_raster
from ..core.writing import write_whole
from .export import export_run
from .fit import fit, fit_recipe
from .loop import train
from .recipe import Recipe, as_json, find_rasters

CASES = {"I": ("degraded", "degraded"), "II": ("degraded", "real"), "III": ("real", "real"),
         "III-h": ("harmonised", "harmonised")}
"""What each trains on, and what it is judged on."""
CUBIC, LINEAR = "cubic", "linear"
_UNTRAINED = CUBIC, LINEAR
_USUAL = ("psnr", "ssim", "rmse", "sam")
"""Metrics that judge where none is named."""
_FWHM_TO_SIGMA = 1 / 2.3548


@dataclass(frozen=True)
class Degradation:
    """How a fine image becomes one as the coarse sensor would see it: blur, mean over its pixels, noise."""

    fwhm_px: float = 1.0
    """Width of the Gaussian point spread at half its height, in pixels of the coarse sensor, besides the pixel."""
    noise: float = 0.01
    """Deviation of white noise, as a share of each band's own deviation."""

    def reach_px(self, scale: Fraction) -> int:
        """How far from a fine pixel the point spread is counted."""
        return int(np.ceil(3 * self.fwhm_px * float(scale) * _FWHM_TO_SIGMA))

    def __call__(self, image: Tensor, fine: Grid, coarse: Grid, scale: Fraction, seed: int) -> Tensor:
        """(C,h,w) on the fine grid -> (C,h',w') on the coarse one."""
        sigma = self.fwhm_px * float(scale) * _FWHM_TO_SIGMA
        if sigma:
            side = 2 * self.reach_px(scale) + 1
            image = gaussian_blur2d(image[None], (side, side), (sigma, sigma), "reflect")[0]
        seen, _ = warp(image, fine, coarse, Warping("average"))
        generator = torch.Generator().manual_seed(seed)
        deviation = self.noise * seen.std((1, 2), keepdim=True)
        return seen + deviation * torch.randn(seen.shape, generator=generator)


@dataclass(frozen=True)
class Split:
    """By rows of the coarse grid."""

    north: float = 0.65
    """Share of the rows that train."""
    gap_px: int = 8
    """Rows between, which belong to neither."""

    def rows(self, height: int, scale: Fraction = Fraction(1)) -> dict[str, tuple[int, int]]:
        """First and one past the last of each part; the south begins where a fine row does."""
        first = int(height * self.north)
        south = -(-(first + self.gap_px) // scale.denominator) * scale.denominator
        return {"north": (0, first), "south": (south, height)}


@dataclass(frozen=True)
class Trial:
    """A method in the experiment."""

    name: str
    recipe: Recipe | None = None
    """None: one that is not trained, the cubic kernel or a least-squares fit."""


@dataclass(frozen=True)
class Found:
    """What one method is worth: figures by case, (seeds, tiles)."""

    trial: str
    figures: dict[str, dict[str, np.ndarray]]
    models: dict[str, str]
    """The hash of each case's first model."""


def domain_gap(recipes: Sequence[Recipe], output: Path, *, seeds: int = 3, degradation: Degradation = Degradation(),
               split: Split = Split(), tile_px: int = 48, judging: EvaluationOptions | None = None,
               device: str = "auto", report: Callable[[str], None] = print) -> list[Found]:
    """Runs the experiment; what stands in `output` already, of the same experiment, is not made again.

    Args:
        recipes: resolved, with data.scale above 1 and one raster on either side; the first says data, bands, network,
            optimiser and budget for all, each its own method.
        tile_px: side of the tiles that are judged, in fine pixels.
        judging: metrics of two images of one place, and what they need; None: PSNR, SSIM, RMSE and spectral angle.

    Raises:
        RecipeError: for data that is not a pair of one scene, or too small to split, for another experiment's folder,
            and for metrics that cannot judge these images.
    """
    first, names = recipes[0], [recipe.name for recipe in recipes]
    if len({*names, *_UNTRAINED}) < len(names) + len(_UNTRAINED):
        raise RecipeError(f"The methods are told apart by the names of their recipes, and here are "
                          f"{', '.join(names)}, besides {' and '.join(_UNTRAINED)}: give each a name of its own.")
    rasters = _prepare(first, output, degradation, split, tile_px)
    measures = _measures(rasters["fine", "south"], float(first.data.scale), judging or EvaluationOptions())
    shared = [first.model_copy(update={"name": recipe.name, "method": recipe.method, "settings": recipe.settings})
              for recipe in recipes]
    trials = [*((Trial(name), 1) for name in _UNTRAINED if name == CUBIC or first.data.scale.denominator == 1),
              *((Trial(recipe.name, recipe), seeds) for recipe in shared)]
    return [_judged(trial, rasters, output, count, measures, tile_px, device, report) for trial, count in trials]


def _measures(fine: Path, scale: float, judging: EvaluationOptions) -> list[Measure]:
    raster = RasterSource.open(str(fine))
    images, _ = images_of(raster, {"reference": raster}, [], judging.value_range, scale, judging.rgb, judging.sensor,
                          judging.weights)
    measures = []
    for name in judging.metrics or _USUAL:
        if name not in METRICS or METRICS[name].kind != "paired":
            raise RecipeError(f"The metric {name} does not compare an image with the true one, tile by tile: choose "
                              f"among {', '.join(key for key, each in METRICS.items() if each.kind == 'paired')}.")
        try:
            measures.append(METRICS[name].make(images))
        except Undefined as undefined:
            raise RecipeError(f"Metric {name} cannot be computed ({undefined}): choose another.") from undefined
    return measures


def _claim(record: Path, recipe: Recipe, degradation: Degradation, split: Split) -> None:
    """Writes down what the models of a folder depend on, or refuses a folder whose models depend on something else."""
    shared = recipe.model_dump(mode="json", exclude={"name", "method", "settings", "package"})
    settings = json.dumps([shared, repr(degradation), repr(split)], sort_keys=True)
    if record.exists() and record.read_text() != settings:
        raise RecipeError(f"{record.parent} holds models of an experiment with other data, budget or degradation: "
                          "choose another --output, or remove it.")
    write_whole(record, settings)


def _prepare(recipe: Recipe, output: Path, degradation: Degradation, split: Split, tile_px: int
             ) -> dict[tuple[str, str], Path]:
    """The rasters of both parts: fine, and what is seen of them in three ways; by kind and part."""
    data, scale = recipe.data, recipe.data.scale
    sides = [find_rasters(rasters, side) for rasters, side in ((data.source, "source"), (data.target, "target"))]
    if [len(paths) for paths in sides] != [1, 1] or scale == 1:
        raise RecipeError(f"The experiment takes one source raster and one target of the same area in finer pixels, "
                          f"and here are {len(sides[0])}, {len(sides[1])} and data.scale {scale}: name one of each and "
                          "set data.scale.")
    coarse = RasterSource.open(sides[0][0], data.source.bands)
    fine: SeekableRaster = RasterSource.open(sides[1][0], data.target.bands)
    grid = finer(coarse, scale).grid
    if not fine.grid.matches(grid):
        if not data.match_grid:
            raise RecipeError(f"The pixels of {fine.path} do not divide those of the source by {scale}: give "
                              "data.match_grid = true, or change data.scale.")
        fine = resampled_to(fine, grid)
    if len(coarse.bands) != len(fine.bands):
        raise RecipeError(f"The source has {len(coarse.bands)} bands and the target {len(fine.bands)}, and what is "
                          "degraded from one must stand for the other: choose bands with data.source.bands and "
                          "data.target.bands.")
    parts, side = split.rows(coarse.grid.height, scale), data.window_px
    if min((stop - start) * scale for start, stop in parts.values()) < side:
        raise RecipeError(f"{fine.path} is too small to be split: both parts must be {side} fine pixels high "
                          "(data.window_px). Take a larger scene or a smaller window.")
    south = int((parts["south"][1] - parts["south"][0]) * scale)
    if min(south, grid.width) < tile_px:
        raise RecipeError(f"The south of {fine.path} is {south} x {grid.width} fine pixels, and tiles of {tile_px} are "
                          "judged there: choose smaller tiles or a larger scene.")
    if degradation.reach_px(scale) >= min(grid.height, grid.width):
        raise RecipeError(f"A point spread function of {degradation.fwhm_px:g} coarse pixels reaches over {fine.path} "
                          f"({grid.height} x {grid.width} fine pixels): choose a narrower one.")
    _claim(output / "experiment.json", recipe, degradation, split)
    folder = output / "data"
    images = {"real": _image(coarse), "fine": _image(fine)}
    images["degraded"] = degradation(images["fine"], grid, coarse.grid, scale, recipe.seed)
    train_rows = slice(*parts["north"])
    images["harmonised"] = torch.stack([_fitted(a, b, train_rows) for a, b in zip(images["real"], images["degraded"])])
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind, image in images.items():
        whole, times = (grid, scale) if kind == "fine" else (coarse.grid, Fraction(1))
        names = [band.name for band in recipe.bands.target if kind == "fine"] or [
            band.name for band in recipe.bands.source]
        for part, (start, stop) in parts.items():
            rows = int(start * times), int(stop * times)
            path = paths[kind, part] = folder / f"{kind}-{part}.tif"
            spec = OutputSpec(whole.crop(Window(rows[0], 0, rows[1] - rows[0], whole.width)),
                              tuple(Band(name) for name in names), "float32")
            save_raster(path, spec, [Rows(0, image[:, slice(*rows)].contiguous().numpy(), None)], overwrite=True)
    return paths


def _image(raster) -> Tensor:
    """All pixels in physical units."""
    rows = raster.read(Window(0, 0, raster.grid.height, raster.grid.width))
    if rows.mask is not None and not rows.mask.all():
        raise RecipeError(f"{raster.path} has pixels without data, and tiles are compared pixel by pixel: cut it to a "
                          "part that is whole.")
    scale, offset = (torch.tensor(v)[:, None, None] for v in zip(*((b.scale, b.offset) for b in raster.bands)))
    return (torch.from_numpy(rows.pixels.astype("float32")) * scale + offset).float()


def _fitted(real: Tensor, degraded: Tensor, rows: slice) -> Tensor:
    """The line of one band that least squares give on the rows that train, for all rows."""
    gain, offset = np.polyfit(real[rows].flatten().double().numpy(), degraded[rows].flatten().double().numpy(), 1)
    return (real * gain + offset).float()


def _judged(trial: Trial, rasters: dict, output: Path, seeds: int, measures: Sequence[Measure], tile_px: int,
            device: str, report: Callable[[str], None]) -> Found:
    figures: dict[str, dict[str, list]] = {case: {} for case in CASES}
    models: dict[str, str] = {}
    for seed in range(seeds):
        for case, (trained, judged) in CASES.items():
            source = rasters[judged, "south"]
            if trial.name == CUBIC:
                made = _image(resampled_to(RasterSource.open(str(source)), RasterSource.open(str(
                    rasters["fine", "south"])).grid)).numpy()
            else:
                package = (_model(trial.name, trial.recipe, trained, rasters, output, seed, device, report)
                           if trial.recipe else _fit(trained, rasters, output, report))
                models.setdefault(case, package.manifest.weights_sha256 or "")
                path = output / trial.name / f"case-{case}-seed-{seed}.tif"
                translate_raster(str(source), path, package, compute=Compute(device=device), overwrite=True)
                made = _image(RasterSource.open(str(path))).numpy()
            wanted = _image(RasterSource.open(str(rasters["fine", "south"]))).numpy()
            for name, values in by_tile(wanted, made, tile_px, measures).items():
                figures[case].setdefault(name, []).append(values)
    return Found(trial.name, {case: {name: np.array(each) for name, each in rows.items()}
                              for case, rows in figures.items()}, models)


def _model(name: str, base: Recipe, kind: str, rasters: dict, output: Path, seed: int, device: str,
           report: Callable[[str], None]) -> ModelPackage:
    """The model of one kind of source and one seed, trained where it does not stand there yet."""
    folder = output / name / f"{kind}-seed-{seed}"
    if (folder / "model").is_dir():
        made = ModelPackage.load(folder / "model")
        if [made.manifest.recipe.get(key) for key in ("method", "settings")] != [
                base.method, as_json(base)["settings"]]:
            raise RecipeError(f"{folder} holds a model of method {made.manifest.recipe.get('method')} with other "
                              "settings: choose another --output, or remove it.")
        return made
    paths = {side: (str(rasters[which, "north"]),) for side, which in (("source", kind), ("target", "fine"))}
    data = base.data.model_copy(update={
        side: base.data.source.model_copy(update={"paths": paths[side], "bands": None, "exclude": ()})
        for side in ("source", "target")} | {"match_grid": False})
    recipe = base.model_copy(update={"name": "model", "seed": base.seed + seed, "data": data})
    bands = recipe.bands.model_copy(update={
        "dtype": "float32", "normalise_in": _range(paths["source"][0]), "normalise_out": _range(paths["target"][0])})
    report(f"{name}: training on {kind} images, seed {seed}")
    run = train(recipe.model_copy(update={"bands": bands}), folder, resume=True, device=device)
    return export_run(run, folder / "model")


def _fit(kind: str, rasters: dict, output: Path, report: Callable[[str], None]) -> ModelPackage:
    """Least squares from one kind of source to the fine image, with terms that are chosen on a part of the north."""
    folder = output / LINEAR / kind / "model"
    if folder.is_dir():
        return ModelPackage.load(folder)
    coarse, fine = (RasterSource.open(str(rasters[which, "north"])) for which in (kind, "fine"))
    scale = str(fine.grid.height // coarse.grid.height)
    report(f"{LINEAR}: fitted to {kind} images")
    recipe = fit_recipe("linear", "model", (coarse.path,), (fine.path,),
                        {"data.scale": scale, "bands.dtype": "float32"})
    return fit("linear", recipe, folder)[0]


def _range(path: str) -> RangeNormaliser:
    """What nearly all of a raster's numbers span."""
    low, high = RasterSource.open(path).statistics((0.1, 99.9)).percentiles.values()
    return RangeNormaliser(minimum=low, maximum=high)


def by_tile(wanted: np.ndarray, made: np.ndarray, side: int, measures: Sequence[Measure]) -> dict[str, np.ndarray]:
    """Each figure of every whole tile of two images (C,h,w), as (tiles,)."""
    found: dict[str, list[float]] = {measure.name: [] for measure in measures}
    for row in range(0, wanted.shape[1] - side + 1, side):
        for col in range(0, wanted.shape[2] - side + 1, side):
            part = np.s_[:, row : row + side, col : col + side]
            for measure in measures:
                found[measure.name].append(measured(measure, wanted[part].astype(float), made[part].astype(float)))
    return {name: np.array(values) for name, values in found.items()}
