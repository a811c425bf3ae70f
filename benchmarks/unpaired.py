"""Unpaired methods on Jupiter: JunoCam mosaics to the degraded Hubble map, judged on perijoves not seen in training.

    python benchmarks/unpaired.py methods  [--steps 300] [--write docs/results/unpaired_methods.md]
    python benchmarks/unpaired.py gap      ...   the target degraded to 0.5, 1 and 2 degrees
    python benchmarks/unpaired.py ablation ...   SP-I2I with 1, 2, 4 and 6 levels and without a gate, three seeds

Every model has the same generator, windows and number of steps; its own settings are its method's defaults but for
SETTINGS below. Methods are trained at two learning rates. Runs stand in --runs and are not made twice. Data:
../shared/data/jupiter, see GEOI2I_DATA.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from geoi2i.core.models.package import ModelPackage
from geoi2i.core.run import Compute, translate_raster
from geoi2i.training.fit import fit, fit_recipe
from geoi2i.training.log import iterate_log

sys.path.insert(0, str(Path(__file__).parent))
import jupiter
import prepare_jupiter
from _trials import trained, write_page

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("sp_i2i", "unsb", "cut", "fastcut", "cyclegan", "stegogan")
GAPS_DEG = (0.5, 1.0, 2.0)
RATE, PAPERS_RATE = 1e-3, 2e-4
"""Ours, for short trainings on small windows, and that of UNSB, CUT, CycleGAN and StegoGAN."""
LEVELS, SEEDS = (1, 2, 4, 6), (1, 2, 3)
NARROW = {"critic_width": 32}
SETTINGS = {
    "sp_i2i": {**NARROW, "levels": 4, "lambda_sb": 0, "tau": 0.001, "spatial_knee": 0.05},
    "unsb": {**NARROW, "tau": 0.001, "nce_width": 64}, "cut": {**NARROW, "nce_width": 64},
    "fastcut": {**NARROW, "nce_width": 64, "lambda_nce": 10, "identity": False, "flip_equivariance": True},
    "cyclegan": NARROW, "stegogan": NARROW}
TOLD = """
"On training windows" is the distance in colour that the training itself logged last (of 32 windows; smaller is nearer).
"""


@dataclass(frozen=True)
class Trial:
    """One model to train."""

    name: str
    method: str
    gap_deg: float = 1.0
    seed: int = 1
    settings: dict = field(default_factory=dict)
    rate: float = RATE

    @property
    def slug(self) -> str:
        name = self.name.replace(" ", "-").replace("_", "-").lower()
        return f"{name}-{self.gap_deg:g}deg-seed{self.seed}" + (f"-rate{self.rate:g}" if self.rate != RATE else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=["methods", "gap", "ablation"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GEOI2I_DATA", "../shared/data")) / "jupiter")
    parser.add_argument("--runs", type=Path, default=Path("runs/unpaired"))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    trials = {"methods": [Trial(name, name, rate=rate) for name in METHODS for rate in (RATE, PAPERS_RATE)],
              "gap": [Trial(name, name, gap, rate=rate) for gap in GAPS_DEG for name in METHODS
                      for rate in (RATE, PAPERS_RATE)],
              "ablation": [*(Trial(f"L{levels}", "sp_i2i", seed=seed, settings={"levels": levels})
                             for levels in LEVELS for seed in SEEDS),
                           *(Trial("no gate", "sp_i2i", seed=seed, settings={"levels": 6, "gating": False})
                             for seed in SEEDS)]}[arguments.experiment]
    for gap in {trial.gap_deg for trial in trials}:
        prepare(arguments, gap)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seconds = list(pool.map(lambda trial: train(trial, arguments), trials))
    rows = {}
    for gap in sorted({trial.gap_deg for trial in trials}):
        rows[gap] = judged(arguments, gap, [trial for trial in trials if trial.gap_deg == gap])
    text = page(arguments, trials, seconds, rows)
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


def folder_of(arguments, gap: float) -> Path:
    return arguments.runs / f"data-{gap:g}deg"


def prepare(arguments, gap: float) -> None:
    """Mosaics and target on one grid, the target degraded to so many degrees."""
    folder = folder_of(arguments, gap)
    if (folder / "opal.tif").exists():
        return
    program = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import prepare_jupiter as p; "
               f"p.TARGET_FWHM_DEG = {gap}; sys.argv[1:] = ['--data', {str(arguments.data)!r}, '--output', "
               f"{str(folder)!r}]; p.main()")
    subprocess.run([sys.executable, "-c", program], check=True)


def train(trial: Trial, arguments) -> float:
    """Trains a model that is not there yet, in a process of its own; returns the seconds that it took."""
    output, data = arguments.runs / trial.slug, folder_of(arguments, trial.gap_deg)
    recipe = tomllib.loads((ROOT / "resources" / "recipes" / "jupiter-rgb.toml").read_text())
    settings = {**SETTINGS[trial.method], **trial.settings}
    recipe |= {"name": "model", "seed": trial.seed, "settings": settings,
               "method": "cut" if trial.method == "fastcut" else trial.method}
    recipe["optimiser"]["lr"] = trial.rate
    recipe["budget"] |= {"steps": arguments.steps, "preview_every": arguments.steps, "log_every": 50}
    if trial.method not in ("sp_i2i", "unsb"):
        del recipe["network"]["sizes"]["style"]
    recipe["data"]["source"]["paths"] = [str(data / "junocam")]
    recipe["data"]["target"] = {"paths": [str(data / "opal.tif")]}
    return trained(recipe, output, arguments.device)


def judged(arguments, gap: float, trials: list[Trial]) -> dict[str, dict]:
    """The means over the validation perijoves of every figure, by model and seed; and of the baselines."""
    data = folder_of(arguments, gap)
    training = [p for p in sorted((data / "junocam").glob("PJ*.tif")) if p.stem not in jupiter.VALIDATION]
    target, target_valid = jupiter.load(data / "opal.tif")
    matching = jupiter.moments(training, target, target_valid)
    curves = jupiter.histogram_curves(training, target, target_valid)
    fits = closed_forms(training, data / "opal.tif", arguments.runs / f"fits-{gap:g}")
    found: dict[str, list[dict]] = {}
    for name in jupiter.VALIDATION:
        path = data / "junocam" / f"{name}.tif"
        source, _ = jupiter.load(path)
        images = {"identity": source, "moment matching": np.clip(matching[0] * source + matching[1], 0, 255),
                  "histogram matching": curves(source),
                  **{key: translated(path, folder, arguments.device) for key, folder in fits.items()}}
        for trial in trials:
            if (arguments.runs / trial.slug / "model").is_dir():
                images[trial.slug] = translated(path, arguments.runs / trial.slug / "model", arguments.device)
        rows = jupiter.figures(path, images, target, target_valid)
        for key, row in rows.items():
            found.setdefault(key, []).append(row)
    return {key: {figure: np.mean([np.asarray(row[figure]) for row in rows], 0) for figure in rows[0]}
            for key, rows in found.items()}


def closed_forms(sources: list[Path], target: Path, runs: Path) -> dict[str, Path]:
    """Folders of models that are solved for on all training mosaics, each pixel of either side counting alike."""
    kinds = {"fit moments": ("moments", {}), "fit transport": ("transport", {}),
             "fit transport, latitude order 4": ("transport", {"latitude_order": 4}),
             "fit histogram": ("histogram", {}), "fit histogram, 12 rounds": ("histogram", {"rounds": 12})}
    found = {}
    for name, (kind, settings) in kinds.items():
        found[name] = runs / name.replace(", ", "-").replace(" ", "-")
        shutil.rmtree(found[name], ignore_errors=True)
        recipe = fit_recipe(kind, "fit", tuple(map(str, sources)), (str(target),), {})
        fit(kind, recipe, found[name], **settings)
    return found


def translated(path: Path, model: Path, device: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.tif"
        translate_raster(str(path), output, ModelPackage.load(model), compute=Compute(device=device))
        return jupiter.load(output)[0]


def page(arguments, trials, seconds, rows) -> str:
    took = {trial.slug: value for trial, value in zip(trials, seconds)}
    ablation = arguments.experiment == "ablation"
    names = {} if ablation else {trial.slug: f"{trial.name}, {trial.rate:g}" for trial in trials}
    lines = [f"# Jupiter, unpaired: {arguments.experiment}", "",
             f"`python benchmarks/unpaired.py {arguments.experiment} --steps {arguments.steps}`, "
             f"{datetime.date.today()}, {platform.machine()}, one thread a training, device {arguments.device}, torch "
             f"{torch.__version__}. {arguments.steps} steps of 4 windows of 64 pixels each; means over "
             f"{' and '.join(jupiter.VALIDATION)}, which no training saw.", ""]
    heads = ["", "chi-square to Hubble", "SSIM to source", "PSNR to source", "low", "mid", "high"]
    if not ablation:
        heads = ["method, learning rate", *heads[1:], "on training windows", "time"]
    for gap, table in rows.items():
        lines += [f"## Target degraded to {gap:g} degrees ({gap / prepare_jupiter.PIXEL_DEG:g} source pixels)", "",
                  f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        if ablation:
            table = spread(table, [trial for trial in trials if trial.gap_deg == gap])
        for name, row in table.items():
            cells = [names.get(name, name), text(row["chi2"], 4), text(row["ssim"], 4), text(row["psnr"], 2),
                     *(text(v, 2) for v in row["retention"])]
            if not ablation:
                cells += [text(closeness(arguments, name), 3), f"{took[name]:.0f} s"] if name in took else ["-", "-"]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    failed = [slug for slug, value in took.items() if value != value]
    if failed:
        lines += [f"Did not come to an end: {', '.join(failed)}.", ""]
    return "\n".join([*lines, jupiter.NOTES + ("" if ablation else TOLD)])


def closeness(arguments, slug: str) -> float:
    """The last distance in colour that a training logged, on windows that it was trained on."""
    *_, last = iterate_log(arguments.runs / slug / "log.jsonl")
    return last["colour_distance"]


def spread(table: dict[str, dict], trials: list[Trial]) -> dict[str, dict]:
    """Mean and standard deviation over the seeds of each kind of model."""
    kinds: dict[str, list[dict]] = {}
    for trial in trials:
        if trial.slug in table:
            kinds.setdefault(trial.name, []).append(table[trial.slug])
    slugs = {trial.slug for trial in trials}
    merged = {name: row for name, row in table.items() if name not in slugs}
    for name, rows in kinds.items():
        if len(rows) == 1:
            merged[f"{name} (1 seed)"] = rows[0]
            continue
        merged[f"{name} ({len(rows)} seeds)"] = {
            key: np.stack([np.mean([np.asarray(row[key]) for row in rows], 0),
                           np.std([np.asarray(row[key]) for row in rows], 0, ddof=1)], -1) for key in rows[0]}
    return merged


def text(value, digits: int) -> str:
    value = np.asarray(value)
    if value.ndim:
        return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"
    return f"{float(value):.{digits}f}"


if __name__ == "__main__":
    main()
