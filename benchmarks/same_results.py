"""Holds the results of two commits against each other, byte for byte: `same_results.py BEFORE [AFTER]`.

Every command that makes rasters, scores or models runs once with each commit, on the CPU of this machine and on inputs
that are made here; AFTER is the working tree where it is left out. Prints a table; exit code 1 where anything differs.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio

ROOT = Path(__file__).resolve().parent.parent
TINY = [part for text in ("data.window_px=16", "data.batch=2", "budget.steps=3", "budget.log_every=1",
                          "network.sizes.width=8", "network.sizes.blocks=1") for part in ("--set", text)]
PAIR = ["--source", "rgb.tif", "--target", "target.tif"]
COMMANDS = {
    "identity, bytes": "run -m identity -i rgb.tif -o OUT/o.tif",
    "identity, mask": "run -m identity -i mask.tif -o OUT/o.tif",
    "identity, alpha": "run -m identity -i alpha.tif -o OUT/o.tif",
    "identity, float with holes": "run -m identity -i float.tif -o OUT/o.tif",
    "identity, 16 bits with nodata": "run -m identity -i nodata.tif -o OUT/o.tif",
    "model, sample scene": "run -m jupiter-rgb -i SAMPLE -o OUT/o.tif --preview OUT/p.png",
    "model, passes": "run -m jupiter-rgb -i SAMPLE -o OUT/o.tif --samples 3 --seed 5 --uncertainty OUT/u.tif",
    "model, windows": "run -m jupiter-rgb -i SAMPLE -o OUT/o.tif --tile 64 --overlap 8 --batch 2",
    "model, in bf16": "run -m jupiter-rgb -i SAMPLE -o OUT/o.tif --precision bf16",
    "model, holes": "run -m landsat8-sentinel2 -i mask.tif -o OUT/o.tif",
    "model, its grid and back": "run -m landsat8-sentinel2 -i rgb.tif -o OUT/o.tif --match-model-grid --restore-grid",
    **{f"reproject, {kernel}": f"reproject -i mask.tif -o OUT/o.tif --crs EPSG:32632 --resampling {kernel}"
       for kernel in ("nearest", "bilinear", "cubic", "lanczos", "average")},
    "reproject, coarser": "reproject -i float.tif -o OUT/o.tif --crs EPSG:4326 --resolution 0.002",
    "reproject, like": "reproject -i rgb.tif -o OUT/o.tif --like target.tif",
    "evaluate, reference": "evaluate -p rgb.tif -r target.tif --json OUT/e.json --csv OUT/e.csv --report OUT/e.html",
    "evaluate, source and targets": "evaluate -p rgb.tif -s mask.tif -t target.tif --seams --json OUT/e.json",
    "train cut": ["train", "cut", *PAIR, "-o", "OUT/run", *TINY],
    "train sp_i2i": ["train", "sp_i2i", *PAIR, "-o", "OUT/run", *TINY[:6], "--set",
                     "network.sizes={width=4, blocks=0, style=4, embedding=8}", "--set",
                     "settings={steps=2, levels=2, critic_width=4, critic_levels=1, gate_width=4}"],
    "train regression": ["train", "regression", *PAIR, "-o", "OUT/run", *TINY],
    "train i2sb": ["train", "i2sb", *PAIR, "-o", "OUT/run", *TINY]}
TIMELESS = (".tif", ".png", ".json", ".csv", ".html", ".safetensors", ".xml")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", help="a commit; by default the working tree")
    parser.add_argument("--only", default="", help="commands whose name holds this")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geoi2i-same-") as temporary:
        folder = Path(temporary)
        make_inputs(folder)
        checkouts = [checkout(folder, name, commit) for name, commit in (("before", chosen.before),
                                                                         ("after", chosen.after))]
        print("| command | files | bytes | same |\n|---|---|---|---|")
        wrong = 0
        for name, command in COMMANDS.items():
            if chosen.only in name:
                made = [run(folder, path, command) for path in checkouts]
                differing = [file for file in made[0].keys() | made[1].keys() if made[0].get(file) != made[1].get(file)]
                wrong += bool(differing)
                size = sum(count for count, _ in made[1].values())
                print(f"| {name} | {len(made[1])} | {size} | {'no: ' + ', '.join(differing) if differing else 'yes'} |",
                      flush=True)
        for path in checkouts:
            if path != ROOT:
                subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, check=True)
    return 1 if wrong else 0


def checkout(folder: Path, name: str, commit: str | None) -> Path:
    """The tree of a commit."""
    if commit is None:
        return ROOT
    subprocess.run(["git", "worktree", "add", "--detach", "-q", folder / name, commit], cwd=ROOT, check=True)
    return folder / name


def run(folder: Path, tree: Path, command: str | list[str]) -> dict[str, tuple[int, str]]:
    """What a command makes: size and hash of every file that does not tell the time."""
    out, path = folder / "out", folder / "path"
    subprocess.run(["rm", "-rf", out, path], check=True)
    out.mkdir()
    path.mkdir()
    (path / "geoi2i").symlink_to(tree)
    words = command.split() if isinstance(command, str) else command
    words = [word.replace("OUT", str(out)).replace("SAMPLE", str(next((ROOT / "resources/samples").glob("*.tif"))))
             for word in words]
    device = [] if words[0] == "evaluate" else ["--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-m", "geoi2i", *words, *device], cwd=folder,
                          env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} with {tree} ends with {done.returncode}: {done.stderr[-2000:]}")
    return {str(file.relative_to(out)): (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()[:16])
            for file in sorted(out.rglob("*")) if file.suffix in TIMELESS}


def make_inputs(folder: Path) -> None:
    """Rasters of several kinds, with structure and holes."""
    generator = np.random.default_rng(0)
    rows, cols = np.mgrid[0:700, 0:300]
    image = np.stack([100 + 60 * np.sin(rows / (9 + k)) * np.cos(cols / 17) for k in range(3)])
    image = (image + generator.normal(0, 8, image.shape)).clip(1, 254)
    valid = (np.hypot(rows - 350, cols - 150) > 60) & (generator.random((700, 300)) > 0.01)
    write(folder / "rgb.tif", image.astype("uint8"))
    write(folder / "target.tif", (255 - image * 0.8).clip(1, 254).astype("uint8"))
    write(folder / "mask.tif", image.astype("uint8"), mask=valid)
    write(folder / "alpha.tif", np.concatenate([image, valid[None] * 255]).astype("uint8"), alpha=True)
    write(folder / "nodata.tif", np.where(valid, image * 200, 7).astype("uint16"), nodata=7)
    write(folder / "float.tif", np.where(valid, image / 100, np.nan).astype("float32"))


def write(path: Path, pixels: np.ndarray, mask=None, alpha: bool = False, **facts) -> None:
    transform = rasterio.Affine(30, 0, 500_000, 0, -30, 4_500_000)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
            path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
            dtype=str(pixels.dtype), crs="EPSG:32631", transform=transform, tiled=True, **facts) as out:
        out.write(pixels)
        names = ["red", "green", "blue"] + ["alpha"] * alpha
        out.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
        for k, name in enumerate(names):
            out.set_band_description(k + 1, name)
        if mask is not None:
            out.write_mask(mask)


if __name__ == "__main__":
    sys.exit(main())
