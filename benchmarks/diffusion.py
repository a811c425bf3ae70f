"""Diffusion over rasters: speed against a plain loop, seams with and without blending at every step, few steps.

    python benchmarks/diffusion.py [--size 1024] [--seam-size 4096] [--only speed seams steps toy] [--device cpu]
                                   [--write docs/results/diffusion.md]

speed   seconds for a million pixels and step: the stream against a loop as anybody would write it, over the same
        windows with the same U-Net, and the scheduler of diffusers; turns alternate.
seams   a U-Net that attends and invents levels, over windows of 256 pixels: steps across their borders against steps
        beside them, where windows are blended at every step and noise belongs to places, and where each window goes
        through all steps by itself, with noise of its own, and is blended at the end.
steps   what 1, 4, 15 and 50 steps are worth: a flow trained on Landsat 8 to Sentinel-2, judged on the south. Data:
        ../shared/data, see GEOI2I_DATA.
toy     whether every process can learn eight made pairs by heart in 300 steps, better than the cubic kernel by 0.7 dB:
        that the parts fit together, and nothing about images.

The network of the first has random weights, for only its speed counts.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import rasterio
import torch
from affine import Affine
from geoi2i.core.evaluation.compare import measure_seams
from geoi2i.core.inference.blend import join_columns, join_rows, ramp
from geoi2i.core.inference.sampler import predict
from geoi2i.core.metrics import measured, psnr, ssim
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import ModelPackage, save_package
from geoi2i.core.networks.unet import UNet, UNetSizes
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Compute, Options, translate_raster
from geoi2i.training.bridge import rollout
from geoi2i.training.schedules import denoising_diffusion

sys.path.insert(0, str(Path(__file__).parent))
import paired
from _trials import trained, write_page

BANDS, TILE, OVERLAP, REPEATS = 3, 256, 16, 3
PARTS = ("speed", "seams", "steps", "toy")
SEAMLESS = 1.1
"""A step across borders may be this much of one beside."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seam-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=2000, help="training steps of the flow")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GEOI2I_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/diffusion"))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else (
        f"{platform.machine()}, {os.cpu_count()} cores")
    lines = ["# Diffusion over rasters", "",
             f"`python benchmarks/diffusion.py`, {datetime.date.today()}, {device}, torch {torch.__version__}.", ""]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        for part in arguments.only:
            lines += [*globals()[part](Path(folder), arguments), ""]
            print("\n".join(lines[-12:]), flush=True)
    if arguments.write:
        write_page(arguments.write, "\n".join(lines))


def scene(path: Path, size: int) -> Path:
    """Smooth noise in three bands of [-1, 1]."""
    coarse = torch.randn(1, BANDS, size // 32, size // 32, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0].clamp(-1, 1).numpy()
    with rasterio.open(path, "w", driver="GTiff", count=BANDS, height=size, width=size, dtype="float32", tiled=True,
                       crs="EPSG:32633", transform=Affine(10, 0, 0, 0, -10, 0)) as out:
        out.write(pixels)
    return path


def model(folder: Path, table) -> tuple[ModelPackage, UNet]:
    """A U-Net of random weights that sees the source, and its sampler."""
    torch.manual_seed(0)
    network = UNet(UNetSizes(bands_in=2 * BANDS, bands_out=BANDS, width=32, blocks=1, levels=2, embedding=32))
    torch.nn.init.normal_(network.head.weight, std=0.02)
    bands = tuple(BandSpec(name=f"band {k}", minimum=-1, maximum=1) for k in range(BANDS))
    reach = {"kind": "range", "minimum": (-1,) * BANDS, "maximum": (1,) * BANDS}
    package = save_package(folder, Manifest(
        name="random", title="Random weights", licence="CC0-1.0", bands_in=bands, bands_out=bands,
        network=NetworkSpec(name="unet", sizes=dict(network.sizes)), table=table, normalise_in=reach,
        normalise_out=reach, margin_px=network.radius_px, multiple_of=network.stride, tile_px=TILE, dtype="float32"),
        network)
    return package, network.eval()


def speed(folder: Path, arguments) -> list[str]:
    """The stream and the plain loop, in turns."""
    import diffusers

    count = 10
    table = denoising_diffusion(1000, "linear", 1e-4, 0.02, "native").unscaled().table(count, 0.0, True, 1.0)
    package, network = model(folder / "speed", table)
    source = scene(folder / "speed.tif", arguments.size)
    device, margin = torch.device(arguments.device), -(-network.radius_px // network.stride) * network.stride
    network = network.to(device)
    scheduler = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(count)

    def plain() -> None:
        """Windows with their margin go through all steps one by one, and their middles are put side by side."""
        with rasterio.open(source) as data, torch.inference_mode():
            image = torch.from_numpy(np.pad(data.read(), ((0, 0), (margin, margin), (margin, margin)), "reflect"))
            made, side = torch.empty(BANDS, arguments.size, arguments.size), TILE + 2 * margin
            for row in range(0, arguments.size, TILE):
                for col in range(0, arguments.size, TILE):
                    shown = image[None, :, row : row + side, col : col + side].to(device)
                    x = torch.randn(1, BANDS, *shown.shape[2:], device=device)
                    for t in scheduler.timesteps:
                        eps = network(torch.cat([x, shown], 1), t[None].float().to(device), None)
                        x = scheduler.step(eps, t, x).prev_sample
                    middle = x[0, :, margin : margin + TILE, margin : margin + TILE]
                    made[:, row : row + TILE, col : col + TILE] = middle
            profile = data.profile | {"compress": "deflate"}
            with rasterio.open(folder / "plain.tif", "w", **profile) as out:
                out.write(made.cpu().numpy())

    def ours(precision: str) -> None:
        translate_raster(str(source), folder / "ours.tif", package, Options(precision=precision),
                         compute=Compute(device=arguments.device), overwrite=True)

    programs = {"plain": plain, "fp32": partial(ours, "fp32"), "bf16": partial(ours, "bf16")}
    seconds = {name: [] for name in programs}
    for _ in range(REPEATS):
        for name, program in programs.items():
            started = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - started)
    each = {name: 1e6 * median(values) / arguments.size**2 / count for name, values in seconds.items()}
    return ["## Speed", "",
            f"{arguments.size} x {arguments.size} pixels, {BANDS} bands, {count} steps of DDIM, windows of {TILE} "
            f"pixels and a margin of {margin}; medians of {REPEATS}. Read, computed and written.", "",
            "| | seconds for a million pixels and step |", "|---|---|",
            f"| loop over windows, diffusers' scheduler | {each['plain']:.2f} |",
            *(f"| geoi2i, {name} | {each[name]:.2f} ({each['plain'] / each[name]:.2f} times as fast) |"
              for name in ("fp32", "bf16")), "",
            "The loop's windows disagree where they meet, for each draws its own noise and sees all steps alone; the "
            "stream reads each pixel once and hands rows from step to step."]


def textured(path: Path, size: int, levels: bool) -> Path:
    """Faint texture in three bands, and with it smooth levels, which it says nothing of."""
    generator = torch.Generator().manual_seed(size)
    pixels = 0.02 * torch.nn.functional.avg_pool2d(torch.randn(1, BANDS, size, size, generator=generator), 3, 1, 1)
    if levels:
        coarse = torch.randn(1, BANDS, size // 64, size // 64, generator=generator)
        pixels = pixels + 0.4 * torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    with rasterio.open(path, "w", driver="GTiff", count=BANDS, height=size, width=size, dtype="float32", tiled=True,
                       crs="EPSG:32633", transform=Affine(10, 0, 0, 0, -10, 0)) as out:
        out.write(pixels[0].clamp(-1, 1).numpy())
    return path


def seams(folder: Path, arguments) -> list[str]:
    """Borders of windows in what a network makes that looks at all of each and invents what its source does not say."""
    band = [{"name": f"band {k}", "minimum": -1, "maximum": 1} for k in range(BANDS)]
    pair = {side: textured(arguments.runs / f"{side}.tif", 2048, side == "target") for side in ("source", "target")}
    recipe = {"name": "model", "method": "flow", "seed": 1, "settings": {"steps": 8, "head": "clean"},
              "data": {"window_px": TILE, "batch": 1, **{side: {"paths": [str(path)]} for side, path in pair.items()}},
              "bands": {"source": band, "target": band, "dtype": "float32"},
              "network": {"name": "unet", "sizes": {"width": 12, "blocks": 1, "levels": 4, "attention": 1,
                                                    "embedding": 32}},
              "optimiser": {"lr": 2e-3, "ema": 0.99}, "budget": {"steps": 400, "preview_every": 10**6}}
    trained(recipe, arguments.runs / "seams", arguments.device)
    package = ModelPackage.load(arguments.runs / "seams" / "model")
    source = textured(folder / "seams.tif", arguments.seam_size, False)
    every = translate_raster(str(source), folder / "every.tif", package, Options(overlap=OVERLAP),
                             compute=Compute(device=arguments.device))
    last = at_the_end(source, folder / "last.tif", package, arguments.device)
    lines = ["## Seams", "",
             f"{arguments.seam_size} x {arguments.seam_size} pixels, windows of {TILE} that overlap by {OVERLAP}, "
             f"{len(package.manifest.table.steps)} steps of a small network that attends over its whole window and was "
             "trained, 400 steps, to invent smooth colours for a faint texture that says nothing of them. Step across "
             "the borders of windows over the step beside them; 1 is no seam.", "",
             "| windows are blended | rows | columns | at most 1.1 | deviation |", "|---|---|---|---|---|"]
    for name, path in (("at every step", every), ("only at the end", last)):
        found = measure_seams(RasterSource.open(str(path)), TILE - OVERLAP)
        rows, columns = (found[axis].ratio for axis in ("rows", "columns"))
        kept = "yes" if max(rows, columns) <= SEAMLESS else "**no**"
        with rasterio.open(path) as data:
            lines.append(f"| {name} | {rows:.3f} | {columns:.3f} | {kept} | {data.read().std():.3f} |")
    return lines


def at_the_end(source: Path, path: Path, package: ModelPackage, device: str) -> Path:
    """Each window through all steps by itself, with noise of its own; the results are blended as the stream blends."""
    network, table, overlap = package.network().to(device), package.manifest.table, OVERLAP
    torch.manual_seed(0)
    with rasterio.open(source) as data, torch.inference_mode():
        size = data.width
        starts = list(range(0, size - overlap, TILE - overlap))
        image = torch.from_numpy(np.pad(data.read(), ((0, 0), (0, TILE), (0, TILE)), "reflect"))
        made, pending, weight = torch.empty(BANDS, size, size), None, ramp(overlap)
        for row in starts:
            strip, joined = torch.empty(BANDS, TILE, size), 0
            for col in starts:
                shown = image[None, :, row : row + TILE, col : col + TILE].to(device)
                state = rollout(table, network, shown, len(table.steps) - 1)
                window = predict(table, table.steps[-1], network, state, shown)[0].cpu()
                joined = join_columns(strip, window, col, joined, weight)
            strip = join_rows(pending, strip, weight)
            rows = min(TILE, size - row)
            made[:, row : row + rows] = strip[:, :rows]
            pending = strip[:, TILE - overlap :].clone()
        with rasterio.open(path, "w", **data.profile) as out:
            out.write(made.numpy())
    return path


def steps(folder: Path, arguments) -> list[str]:
    """The quality of each preset, and its time."""
    place = paired.SCENES["landsat"]
    sides = paired.prepare(place, arguments.data, arguments.runs)
    low, high = place.target_range
    band = [{"name": name, "minimum": low, "maximum": high} for name in paired.COLOURS]
    recipe = {"name": "model", "method": "flow", "seed": 1, "settings": {"begins": "source", "deviation": 0.05},
              "data": {"source": {"paths": [str(sides["north"][0])]}, "target": {"paths": [str(sides["north"][1])]},
                       "window_px": 64, "batch": 4},
              "bands": {"source": band, "target": band, "dtype": "float32"},
              "network": {"name": "unet", "sizes": {"width": 24, "blocks": 1, "levels": 2, "embedding": 64}},
              "optimiser": {"lr": 1e-3}, "budget": {"steps": arguments.steps, "preview_every": arguments.steps}}
    seconds = trained(recipe, arguments.runs / "flow", arguments.device)
    package = ModelPackage.load(arguments.runs / "flow" / "model")
    wanted = paired.read(sides["south"][1])
    span, lines = high - low, ["## Few steps", "",
                               f"A flow from the source, {arguments.steps} training steps of a small U-Net "
                               f"({seconds:.0f} s, one thread), Landsat 8 to Sentinel-2 at 30 m: the north trained it, "
                               "the south judges. The linear fit needs no network.", "",
                               "| steps | PSNR | SSIM | seconds |", "|---|---|---|---|"]
    kinds = psnr(span), ssim(span)

    def row(name: str, made: np.ndarray, took: str) -> str:
        found = [measured(kind, wanted, made) for kind in kinds]
        return f"| {name} | {found[0]:.2f} | {found[1]:.4f} | {took} |"

    for name, fitted in paired.closed_forms(sides["north"], arguments.runs).items():
        made = translate_raster(str(sides["south"][0]), folder / "fit.tif", fitted, overwrite=True,
                                compute=Compute(device=arguments.device))
        lines.append(row(name, paired.read(made), "-"))
    for count in (1, 4, 15, 50):
        started = time.perf_counter()
        path = translate_raster(str(sides["south"][0]), folder / f"{count}.tif", package,
                                Options(steps=count), compute=Compute(device=arguments.device))
        took = time.perf_counter() - started
        lines.append(row(str(count), paired.read(path), f"{took:.1f}"))
    return lines


CLEAN = {"head": "clean"}
TOYS = {"sr3, clean, cosine": ("sr3", {**CLEAN, "schedule": "cosine", "indices": 1000}), "sr3": ("sr3", {}),
        "resshift": ("resshift", {}), "i2sb, clean": ("i2sb", CLEAN), "i2sb": ("i2sb", {}),
        "bbdm, clean": ("bbdm", CLEAN), "bbdm": ("bbdm", {}), "unidb, clean": ("unidb", CLEAN), "flow": ("flow", {}),
        "flow from the source, clean": ("flow", {**CLEAN, "begins": "source"})}
BETTER_DB = 0.7


def toy(folder: Path, arguments) -> list[str]:
    """Eight pairs of two-coloured shapes, four times finer, learned by heart."""
    clean, source = toy_pairs()
    cubic = -10 * np.log10(float((source - clean).square().mean()) / 4)
    lines = ["## Toy", "", "Eight pairs of 32 x 32 pixels, four times finer, 300 steps of batch 8, 15 sampling steps; "
             f"a U-Net of 16 channels that sees the source. The cubic kernel has {cubic:.2f} dB.", "",
             f"| process | PSNR | at least {BETTER_DB} dB better |", "|---|---|---|"]
    for name, (kind, settings) in TOYS.items():
        found = learned(kind, settings, clean, source)
        lines.append(f"| {name} | {found:.2f} | {'yes' if found >= cubic + BETTER_DB else 'no'} |")
    return [*lines, "", "Native targets that divide by a small number at the noisy end (sr3, flow from noise) need far "
            "longer trainings."]


def toy_pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Clean images (8,3,32,32), and what a four-fold mean leaves of them, brought back by the cubic kernel."""
    generator = torch.Generator().manual_seed(0)
    row, col = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    images = []
    for _ in range(8):
        ground, shape = torch.rand(2, 3, 1, 1, generator=generator) * 2 - 1
        (y, x), radius = torch.rand(2, generator=generator) * 20 + 6, float(torch.rand((), generator=generator)) * 6 + 4
        images.append(torch.where((row - y) ** 2 + (col - x) ** 2 < radius**2, shape, ground))
    clean = torch.stack(images)
    coarse = torch.nn.functional.avg_pool2d(clean, 4)
    return clean, torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic", align_corners=False)


def learned(kind: str, settings: dict, clean: torch.Tensor, source: torch.Tensor) -> float:
    """PSNR of the training pairs after 300 steps of a method's own loss."""
    from geoi2i.training.methods import METHODS
    from geoi2i.training.preview import translated

    torch.manual_seed(0)
    method = METHODS[kind](METHODS[kind].settings_type(**{"steps": 15, "sees_source": True, **settings}))
    unet = UNet(UNetSizes(bands_in=6, bands_out=3, width=16, blocks=1, levels=2, embedding=64))
    networks = method.networks(unet, 3, 3)
    optimiser = torch.optim.Adam(networks["generator"].parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for _ in range(300):
        for loss in method.losses(networks, {"source": source, "target": clean}):
            optimiser.zero_grad()
            loss.value.backward()
            optimiser.step()
        schedule.step()
    made = translated(networks["generator"].eval(), method.steps(), source)
    return -10 * np.log10(float((made - clean).square().mean()) / 4)


if __name__ == "__main__":
    main()
