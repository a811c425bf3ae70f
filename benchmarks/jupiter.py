"""The table of docs/results/jupiter.md: what the bundled model does on the validation perijoves.

    python benchmarks/jupiter.py --data runs/jupiter-data [--model jupiter-rgb] [--write docs/results/jupiter.md]

Data: the output of `python benchmarks/prepare_jupiter.py`. Every row of the table is measured on the
same pixels by the same code: the source itself (identity), affine moment matching per band, the model.
"""

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from geoi2i.core.grid import Window
from geoi2i.core.metrics import band_power, chi_square, histogram, measured, psnr, ssim
from geoi2i.core.models.package import find_model
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Options, translate_raster

sys.path.insert(0, str(Path(__file__).parent))
from _trials import write_page

VALIDATION = ("PJ13", "PJ22")
EDGES = (1 / 32, 1 / 8, 1 / 4, 1 / 2)
"""Cycles per pixel: low, mid and high bands."""
GREY = np.array([0.299, 0.587, 0.114])[:, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("runs/jupiter-data"))
    parser.add_argument("--model", default="jupiter-rgb")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--perijoves", nargs="*", default=list(VALIDATION))
    arguments = parser.parse_args()
    model = find_model(arguments.model)
    training = [p for p in sorted((arguments.data / "junocam").glob("PJ*.tif")) if p.stem not in VALIDATION]
    target, target_valid = load(arguments.data / "opal.tif")
    matching = moments(training, target, target_valid)
    tables = [measure(arguments.data / "junocam" / f"{name}.tif", model, matching, target, target_valid)
              for name in arguments.perijoves]
    text = report(arguments, model, tables)
    print(text)
    if arguments.write:
        write_page(arguments.write, text)


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3,h,w) float64 and validity (h,w)."""
    source = RasterSource.open(path)
    rows = source.read(Window(0, 0, source.grid.height, source.grid.width))
    valid = np.ones(rows.pixels.shape[1:], bool) if rows.mask is None else (rows.mask != 0).all(0)
    return rows.pixels.astype(np.float64), valid


def moments(training: list[Path], target: np.ndarray, target_valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset per band that give the training mosaics the target's mean and deviation.

    The target is weighted by latitude like the mosaics, which see the poles more than the equator.
    """
    pixels, rows = [], np.zeros(target.shape[1])
    for path in training:
        image, valid = load(path)
        valid &= target_valid
        pixels.append(image[:, valid])
        rows += valid.sum(1)
    source = np.concatenate(pixels, 1)
    weight = np.broadcast_to(rows[:, None] / target.shape[2], target_valid.shape)[target_valid]
    values = target[:, target_valid]
    mean = np.average(values, 1, weight)
    std = np.sqrt(np.average((values - mean[:, None]) ** 2, 1, weight))
    gain = std / source.std(1)
    return gain[:, None, None], (mean - gain * source.mean(1))[:, None, None]


def histogram_curves(training: list[Path], target: np.ndarray, target_valid: np.ndarray):
    """A function that gives pixels (3,h,w) of the training mosaics' distribution that of the target, band by band."""
    counts, rows = np.zeros((3, 256)), np.zeros(target.shape[1])
    for path in training:
        image, valid = load(path)
        valid &= target_valid
        counts += [np.bincount(band[valid].astype(int), minlength=256) for band in image]
        rows += valid.sum(1)
    weight = np.broadcast_to(rows[:, None], target_valid.shape)[target_valid]
    wanted = np.stack([np.bincount(band[target_valid].astype(int), weight, 256) for band in target])
    ours, theirs = ((c.cumsum(1) - c / 2) / c.sum(1, keepdims=True) for c in (counts, wanted))
    curves = np.stack([np.interp(a, b, np.arange(256)) for a, b in zip(ours, theirs)])
    return lambda pixels: np.stack([curve[band.astype(int)] for curve, band in zip(curves, pixels)])


def measure(path: Path, model, matching, target, target_valid) -> dict:
    """All figures of one mosaic."""
    source, valid = load(path)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.tif"
        started = time.perf_counter()
        translate_raster(str(path), output, model, Options())
        seconds = time.perf_counter() - started
        translated, _ = load(output)
    gain, offset = matching
    images = {"identity": source, "moment matching": np.clip(gain * source + offset, 0, 255),
              model.manifest.name: translated}
    rows = figures(path, images, target, target_valid)
    return {"name": path.stem, "pixels": int((valid & target_valid).sum()), "seconds": seconds, "rows": rows}


def figures(path: Path, images: dict[str, np.ndarray], target: np.ndarray, target_valid: np.ndarray) -> dict[str, dict]:
    """What each image made of a mosaic is worth, and the target itself."""
    source, valid = load(path)
    valid &= target_valid
    # The target's histogram over the same latitudes, in the same proportion.
    weight = np.broadcast_to(valid.sum(1)[:, None] / target.shape[2], target_valid.shape)[target_valid]
    wanted = histogram(target[:, target_valid], weight, 0, 255)
    reference = band_power((source * GREY).sum(0), valid, EDGES)
    hubble = band_power((target * GREY).sum(0), target_valid & (valid.sum(1) > 0)[:, None], EDGES)
    rows = {}
    for name, image in images.items():
        power = band_power((image * GREY).sum(0), valid, EDGES)
        rows[name] = {"chi2": chi_square(histogram(image[:, valid], None, 0, 255), wanted),
                      "ssim": measured(ssim(255), source, image, valid),
                      "psnr": measured(psnr(255), source, image, valid),
                      "retention": power / reference}
    rows["Hubble map (degraded)"] = {"chi2": 0.0, "ssim": float("nan"), "psnr": float("nan"),
                                     "retention": hubble / reference}
    return rows


def report(arguments, model, tables: list[dict]) -> str:
    lines = [f"# Jupiter: {', '.join(arguments.perijoves)}, not seen in training", ""]
    lines += [f"Printed by `python benchmarks/jupiter.py` on {platform.machine()} "
              f"({torch.get_num_threads()} threads, CPU), torch {torch.__version__}. Model "
              f"`{model.manifest.name}`, weights {model.manifest.weights_sha256[:12]}.", ""]
    for table in tables:
        lines += [f"## {table['name']} ({table['pixels']:,} valid pixels, {table['seconds']:.1f} s)", "",
                  "| | chi-square to Hubble | SSIM to source | PSNR to source | low | mid | high |",
                  "|---|---|---|---|---|---|---|"]
        for name, row in table["rows"].items():
            kept = " | ".join(f"{v:.2f}" for v in row["retention"])
            lines.append(f"| {name} | {row['chi2']:.4f} | {row['ssim']:.4f} | {row['psnr']:.2f} | {kept} |")
        lines.append("")
    return "\n".join([*lines, NOTES])


NOTES = """Chi-square is half the sum of (p-q)^2/(p+q) over 31-bin histograms per band, mean of the bands; the Hubble
map is weighted to the mosaic's latitudes. Low, mid and high are the power of the grey image between 1/32, 1/8,
1/4 and 1/2 cycles per pixel, over the source's power in the same band (1 keeps it all; the last row shows what
the degraded target has left). SSIM and PSNR to the source reward doing nothing: the identity is perfect in both
and useless, so they say how much was changed, not how well. There is no true Hubble image of these scenes; the
colours are those of one display map, not I/F.
"""


if __name__ == "__main__":
    main()
