"""Makes the golden results anew: `make golden`, or `python tests/golden/make.py [NAME ...]`.

Every command of `COMMANDS` runs on rasters and models that seeds make, and what it leaves is kept in results/NAME. A
result that is the same within the tolerance stays as it is, so that git shows which have changed. `package-1` holds
model packages of format 1 as they were first written, and is made once and never again.
"""

import contextlib
import io
import json
import math
import shutil
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from geoi2i.cli.main import main
from geoi2i.core.inference.steps import Step, StepTable, generator_table, schrodinger_bridge_table
from geoi2i.core.models.manifest import Auxiliary, BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import build_network, save_package
from geoi2i.core.networks.latent import Autoencoder, AutoencoderSizes, AutoencoderSpec

HERE = Path(__file__).parent
RESULTS, PACKAGES = HERE / "results", HERE / "package-1"
TOLERANCE = 1e-5
"""Of the range of values: processors add in different orders."""
NAMES, NORTH_UP = ("red", "infrared"), Affine(30, 0, 500_000, 0, -30, 4_500_000)
TRAIN = ("--source ../target.tif --target ../scene.tif -o run --set data.window_px=16 --set data.batch=2 "
         "--set budget.steps=5 --set budget.log_every=1 --set network.sizes.width=4 --set network.sizes.blocks=1 "
         "--set network.sizes.levels=1 --set network.sizes.embedding=8")
COMMANDS = {
    "identity": "run -m identity -i ../counts.tif -o o.tif",
    "bridge": "run -m ../models/bridge -i ../scene.tif -o o.tif --samples 2 --seed 5 --uncertainty u.tif",
    "finer": "run -m ../models/finer -i ../grey.tif -o o.tif",
    "its-grid-and-back": "run -m ../models/coarse -i ../counts.tif -o o.tif --match-model-grid --restore-grid",
    **{f"reproject-{kernel}": f"reproject -i ../grey.tif -o o.tif --crs EPSG:32632 --resolution 40 --resampling "
       f"{kernel}" for kernel in ("nearest", "bilinear", "cubic", "lanczos", "average")},
    "reproject-nodata": "reproject -i ../counts.tif -o o.tif --crs EPSG:4326 --resampling cubic",
    "reproject-jupiter": "reproject -i ../jupiter.tif -o o.tif --crs IAU_2015:59912",
    "evaluate-reference": "evaluate -p ../scene.tif -r ../target.tif --range -2,2 --json e.json",
    "evaluate-targets": "evaluate -p ../scene.tif -s ../target.tif -t ../target.tif --seams --json e.json",
    "train-cut": f"train cut {TRAIN} --set optimiser.lr=5e-4",
    "train-i2sb": f"train i2sb {TRAIN} --set optimiser.lr=0.01"}


def run(command: str, folder: Path) -> Path:
    """Runs a command in a new folder inside that of the inputs; returns it with what the command left."""
    place = Path(tempfile.mkdtemp(dir=folder))
    device = [] if command.startswith("evaluate") else ["--device", "cpu"]
    said = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main([*command.split(), *device])
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"geoi2i {command} ends with {end.code}: {said.getvalue()}") from end
    return place


def files(folder: Path) -> list[str]:
    """Names of the results that a command has left, from its folder on."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.suffix in (".tif", ".json", ".jsonl") and path.name != "manifest.json")


def differences(found: Path, golden: Path) -> list[str]:
    """In what the results of a command differ from the golden ones, a sentence each."""
    if files(found) != files(golden):
        return [f"there are the files {files(found)} and not {files(golden)}"]
    return [f"{name}: {difference}" for name in files(golden)
            for difference in (_rasters if name.endswith(".tif") else _figures)(found / name, golden / name)]


def _rasters(found: Path, golden: Path) -> list[str]:
    with rasterio.open(found) as new, rasterio.open(golden) as old:
        facts = [f"{name} was {getattr(old, name)} and is {getattr(new, name)}" for name in (
            "dtypes", "shape", "crs", "descriptions", "units", "scales", "offsets", "colorinterp", "mask_flag_enums")
            if getattr(old, name) != getattr(new, name)]
        if not old.transform.almost_equals(new.transform, 1e-9 * abs(old.transform.a)):
            facts.append(f"the transform was {old.transform} and is {new.transform}")
        if str(old.nodata) != str(new.nodata):
            facts.append(f"nodata was {old.nodata} and is {new.nodata}")
        if facts:
            return facts
        valid = old.dataset_mask() != 0
        if not np.array_equal(valid, new.dataset_mask() != 0):
            return [f"{np.count_nonzero(valid != (new.dataset_mask() != 0))} pixels are valid in one of the two"]
        pairs = list(zip(old.read(), new.read()))
    return [f"band {k}: {text}" for k, (was, is_) in enumerate(pairs, 1) for text in _numbers(is_[valid], was[valid])]


def _numbers(found: np.ndarray, golden: np.ndarray) -> list[str]:
    if golden.dtype.kind in "iu":  # rounded: one in a hundred may have gone the other way
        off, reach = np.abs(found.astype(int) - golden), int(np.ptp(golden))
        wrong = off.max() > 1 or np.count_nonzero(off) > off.size / 100
    else:
        if not np.array_equal(np.isnan(found), np.isnan(golden)):
            return ["other pixels are NaN"]
        off, reach = np.nan_to_num(np.abs(found - golden)), np.nanmax(golden) - np.nanmin(golden)
        wrong = off.max() > TOLERANCE * reach
    return [f"off by up to {off.max():.3g}, where values span {reach:.5g}"] if wrong else []


def _figures(found: Path, golden: Path) -> list[str]:
    new, old = ([json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl"
                else json.loads(path.read_text()) for path in (found, golden))
    return list(_unlike(new, old, ""))


def _unlike(new, old, place: str):
    """Figures that differ, by their place in the file; times are not compared, and neither are words."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old.keys() - {"seconds"}:
            yield from _unlike(new[key], old[key], f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, (a, b) in enumerate(zip(new, old)):
            yield from _unlike(a, b, f"{place}/{k}")
    elif isinstance(old, float) and isinstance(new, float):
        if not math.isclose(new, old, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{place} was {old} and is {new}"
    elif old != new and not (isinstance(old, str) and isinstance(new, str)):
        yield f"{place} was {old!r:.80} and is {new!r:.80}"


def make_inputs(folder: Path) -> None:
    """Rasters of several kinds, and models of random weights in models/.

    The random numbers are those of `RandomState`, which numpy never changes.
    """
    row, col = np.mgrid[0:32, 0:24]
    waves = np.stack([np.sin(row / (4 + k)) * np.cos(col / 3) for k in range(2)])
    noise = np.random.RandomState(0).standard_normal((4, 32, 24)) / 8
    hole = np.hypot(row - 9, col - 8) < 4
    scene = np.where(hole, np.nan, waves + noise[:2])
    counts = np.where(hole, 7, np.rint(2_000 + 900 * (waves[:1] + noise[2:3])))
    _write(folder / "scene.tif", scene.astype("float32"))
    _write(folder / "part.tif", scene[:, 4:24, :16].astype("float32"))
    _write(folder / "target.tif", (1 - 0.8 * waves + noise[2:]).astype("float32"))
    _write(folder / "grey.tif", scene[:1].astype("float32"))
    _write(folder / "counts.tif", counts.astype("uint16"), nodata=7)
    _write(folder / "jupiter.tif", scene[:1].astype("float32"), "IAU_2015:59901", Affine(4, 0, -40, 0, -4, 70))
    _package(folder / "models" / "bridge", 2, table=schrodinger_bridge_table(3, tau=1.0))
    _package(folder / "models" / "finer", 1, scale=Fraction(2))
    _package(folder / "models" / "coarse", 1, reach=(0, 4_000), pixel_size_m=60.0, dtype="same")


def _write(path: Path, pixels: np.ndarray, crs: str = "EPSG:32631", transform: Affine = NORTH_UP, **facts
           ) -> None:
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype=str(pixels.dtype), crs=crs, transform=transform, **facts) as out:
        out.write(pixels)
        out.descriptions = NAMES[: len(pixels)]


def _package(folder: Path, bands: int, reach: tuple[float, float] = (-2, 2), **facts) -> None:
    """A package of a tiny ResNet, which sees and gives the same bands."""
    specs = tuple(BandSpec(name=name, minimum=reach[0], maximum=reach[1]) for name in NAMES[:bands])
    spread = {"kind": "range", "minimum": (reach[0],) * bands, "maximum": (reach[1],) * bands}
    spec = NetworkSpec(name="resnet", sizes={"bands_in": bands, "bands_out": bands, "width": 4, "blocks": 1,
                                             "levels": 1, "style": 2, "embedding": 8})
    network = seeded(build_network(spec), 1)
    save_package(folder, Manifest(**{
        "name": folder.name, "title": "Random weights", "licence": "CC0-1.0", "bands_in": specs, "bands_out": specs,
        "network": spec, "table": generator_table(), "normalise_in": spread, "normalise_out": spread,
        "margin_px": network.radius_px, "multiple_of": network.stride, "tile_px": 16, "overlap_px": 4,
        "dtype": "float32"} | facts), network)


def seeded(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The network with weights that all matter, from a seed."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.from_numpy(random.standard_normal(tuple(value.shape)).astype("float32"))
            value.copy_(noise / math.sqrt(value[0].numel()) if value.ndim > 1
                        else noise / 10 + (not name.endswith("bias")))
    return network


def make_packages(folder: Path) -> None:
    """Packages of every sort that format 1 knows: a bridge that enlarges, a model that takes what the bridge makes, and
    a model that works on the latents of an autoencoder and says how sure it is."""
    bands = [tuple(BandSpec(name=name, unit="W/m2", minimum=-2, maximum=2, colour=colour) for name, colour in pairs)
             for pairs in ((("red", "red"), ("infrared", "undefined")),
                           (("red", "red"), ("green", "green"), ("blue", "blue")))]
    about = {"version": "3", "licence": "CC0-1.0", "body": "Earth", "pixel_size_m": 30.0, "pixel_size_factor": 1.5,
             "dtype": "float32", "recipe": {"name": "golden", "budget": {"steps": 3, "rate": 1e-3}, "flags": [True]},
             "metrics": {"psnr": 31.5, "note": "not measured"}, "training_data": "Random numbers; none are data."}
    even = {"kind": "range", "minimum": (-2, -2), "maximum": (2, 2)}
    spec = NetworkSpec(name="resnet", sizes={"bands_in": 2, "bands_out": 2, "width": 4, "blocks": 0, "levels": 1,
                                             "style": 2, "embedding": 8})
    network = seeded(build_network(spec), 1)
    save_package(folder / "plain", Manifest(
        name="plain", title="A bridge", bands_in=bands[0], bands_out=bands[0], scale=Fraction(3, 2), network=spec,
        table=schrodinger_bridge_table(3, 0.1), presets=(schrodinger_bridge_table(2, 0.1),), normalise_in=even,
        normalise_out=even, margin_px=network.radius_px, multiple_of=2, tile_px=16, overlap_px=4, **about), network)

    spec = NetworkSpec(name="resnet", sizes={"bands_in": 4, "bands_out": 2, "width": 4, "blocks": 1, "levels": 0,
                                             "style": 0, "embedding": 8})
    network = seeded(build_network(spec), 2)
    steps = (Step(time=2, c_skip=0.5, c_out=0.5, keep=0.5, pull=0.5, noise=0.1),
             Step(time=1, c_in=0.9, c_source=0.1, keep=0.2, pull=0.7, memory=0.1, source=0.05))
    save_package(folder / "after-plain", Manifest(
        name="after-plain", title="Takes what the bridge makes", bands_in=bands[0][::-1], bands_out=bands[0],
        network=spec,
        table=StepTable(steps=steps, source_gain=0.9, noise_std=0.2, concatenate_source=True, clip=(-3, 3)),
        normalise_in={"kind": "mean_std", "mean": (0.1, 0.2), "std": (0.9, 1.1)}, normalise_out=even,
        margin_px=network.radius_px, tile_px=16, overlap_px=4, input_model="plain", **about), network)

    sizes = AutoencoderSizes(width=8, levels=1, layers=1, widest=1, groups=4, latents=2)
    codec = Autoencoder(AutoencoderSpec(sizes=sizes, scaling=0.5, shift=0.1, mix=((1, 0), (0, 1), (0.5, 0.5))))
    spec = NetworkSpec(name="unet", sizes={"bands_in": 4, "bands_out": 3, "width": 4, "blocks": 1, "levels": 1,
                                           "attention": 1, "embedding": 8})
    network = seeded(build_network(spec), 3).requires_grad_(False)
    network.head.weight[-1] /= 4  # variances near one
    steps = (Step(time=601, c_skip=1.2, c_out=-0.8, keep=0.3, pull=0.7, noise=0.1), Step(time=1, c_skip=1, c_out=-0.1))
    save_package(folder / "latent", Manifest(
        name="latent", title="On latents", bands_in=bands[0], bands_out=bands[1], network=spec, codec=codec.spec,
        auxiliary=Auxiliary(name="confidence", step=1),
        table=StepTable(steps=steps, source_gain=0, noise_std=1, concatenate_source=True),
        normalise_in={"kind": "percentile", "low": 2, "high": 98},
        normalise_out={"kind": "range", "minimum": (-2,) * 3, "maximum": (2,) * 3}, multiple_of=4, tile_px=16,
        overlap_px=8, attends=True, **about), network, seeded(codec, 5))


PACKAGE_COMMANDS = {
    "plain": "run -m {package} -i ../part.tif -o o.tif --seed 3",
    "after-plain": "run -m {package} -i ../part.tif -o o.tif --seed 3",
    "latent": "run -m {package} -i ../part.tif -o o.tif --seed 3 --confidence c.tif"}
"""What is kept of each golden package's work, in results/ beside the packages."""


def run_package(name: str, folder: Path) -> Path:
    """As `run`, with one of the golden packages."""
    return run(PACKAGE_COMMANDS[name].format(package=PACKAGES / name), folder)


def keep(made: Path, golden: Path) -> None:
    """Makes what a command has left the golden result."""
    shutil.rmtree(golden, ignore_errors=True)
    for name in files(made):
        (golden / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / name, golden / name)


def renew(names: list[str]) -> None:
    """Makes the golden results of these commands anew, by default of all."""
    with tempfile.TemporaryDirectory() as temporary:
        make_inputs(Path(temporary))
        for name in names or COMMANDS:
            made = run(COMMANDS[name], Path(temporary))
            changed = differences(made, RESULTS / name)
            if changed:
                keep(made, RESULTS / name)
            print(f"{name}: {'; '.join(changed[:3]) or 'as it was'}")
        if not PACKAGES.exists():
            make_packages(PACKAGES)
            for name in PACKAGE_COMMANDS:
                keep(run_package(name, Path(temporary)), PACKAGES / "results" / name)


if __name__ == "__main__":
    renew(sys.argv[1:])
