"""The programs that `inference.py` measures, each run as a process of its own.

    python benchmarks/_inference_programs.py NAME JOB.json

JOB.json says where the scene, the output, the weights and the exported network are. Libraries are
imported by the program that needs them, so that each process pays for its own and for no other.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

BANDS, WIDTH, LAYERS, SCALE = 4, 32, 6, 1e-4
PLAIN = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
         "predictor": 2, "interleave": "pixel", "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS"}

# The codec, the tiles and the overviews of what geoi2i writes.
COG = {"COMPRESS": "ZSTD", "LEVEL": "1", "PREDICTOR": "STANDARD", "BLOCKSIZE": "512", "BIGTIFF": "IF_SAFER",
       "NUM_THREADS": "ALL_CPUS", "OVERVIEW_RESAMPLING": "AVERAGE"}


# What all networks share: weights from one seed, no training.

def network_class():
    """The network as geoi2i names it in a manifest: six 3 x 3 convolutions beside the identity."""
    import torch
    from pydantic import BaseModel
    from torch import nn

    class Sizes(BaseModel):
        width: int = WIDTH

    class Convolutions(nn.Module):
        sizes_type, stride, style_size, radius_px, smallest_px = Sizes, 1, 0, LAYERS, 1

        def __init__(self, sizes):
            super().__init__()
            self.channels = sizes.width
            channels = [BANDS, *[sizes.width] * (LAYERS - 1), BANDS]
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels, channels[1:]))

        def forward(self, image, time=None, style=None):
            x = image.to(self.layers[0].weight.dtype)
            for layer in self.layers[:-1]:
                x = torch.relu(layer(x))
            return image + 0.1 * self.layers[-1](x).to(image.dtype)

    return Convolutions


def network():
    """The network with its seeded weights, ready for inference."""
    import torch

    torch.manual_seed(0)
    kind = network_class()
    return kind(kind.sizes_type()).eval().requires_grad_(False)


# Loops around a network, as they are written without a library for it.

def starts(size: int, tile: int, step: int) -> list[int]:
    """Windows along one axis; the last is shifted back to end with the raster."""
    return [0] if size <= tile else [*range(0, size - tile, step), size - tile]


def places(shape: tuple[int, int], job: dict) -> list[tuple[int, int]]:
    """Row and column of every window."""
    step = job["tile"] - job["overlap"]
    return [(row, col) for row in starts(shape[0], job["tile"], step) for col in starts(shape[1], job["tile"], step)]


def stored(values: np.ndarray) -> np.ndarray:
    """Network output as uint16, rounded and saturated."""
    return np.clip(np.rint(values / SCALE), 0, 65535).astype(np.uint16)


def write(path: str, profile: dict, pixels: np.ndarray) -> None:
    """A plain deflate GeoTIFF, compressed by all cores."""
    with rasterio.open(path, "w", **{**profile, **PLAIN}) as out:
        out.write(pixels)


def naive(job: dict) -> None:
    """rasterio windows through torch, summed with raised-cosine weights and divided by their sum."""
    import torch

    model, tile = network(), job["tile"]
    side = np.sin(np.pi * (np.arange(tile, dtype=np.float32) + 0.5) / tile) ** 2
    weight = np.outer(side, side)
    with rasterio.open(job["scene"]) as data, torch.inference_mode():
        total = np.zeros((BANDS, data.height, data.width), np.float32)
        weights = np.zeros((data.height, data.width), np.float32)
        for row, col in places(data.shape, job):
            pixels = data.read(window=Window(col, row, tile, tile)).astype(np.float32) * np.float32(SCALE)
            result = model(torch.from_numpy(pixels)[None])[0].numpy()
            part = slice(row, row + tile), slice(col, col + tile)
            total[:, *part] += result * weight
            weights[part] += weight
        profile = data.profile
    total /= weights
    write(job["output"], profile, stored(total))


def onnx_loop(job: dict) -> None:
    """onnxruntime, half the overlap cropped from every window, the result in memory (as Deepness does)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(job["onnx"], providers=["CPUExecutionProvider"])
    name, tile, crop = session.get_inputs()[0].name, job["tile"], job["overlap"] // 2
    with rasterio.open(job["scene"]) as data:
        result = np.zeros((BANDS, data.height, data.width), np.uint16)
        for row, col in places(data.shape, job):
            pixels = data.read(window=Window(col, row, tile, tile)).astype(np.float32) * np.float32(SCALE)
            output = stored(session.run(None, {name: pixels[None]})[0][0])
            top, left = crop * (row > 0), crop * (col > 0)
            result[:, row + top : row + tile, col + left : col + tile] = output[:, top:, left:]
        profile = data.profile
    write(job["output"], profile, result)


# Peers from PyPI.

def tiler(job: dict) -> None:
    """`tiler`: an array in, an array out, triangular weights (its Hann window is zero at the border)."""
    import torch
    from tiler import Merger, Tiler

    model, side = network(), job["tile"]
    with rasterio.open(job["scene"]) as data, torch.inference_mode():
        pixels, profile = data.read().astype(np.float32) * np.float32(SCALE), data.profile
        tiles = Tiler(pixels.shape, (BANDS, side, side), job["overlap"], channel_dimension=0, mode="reflect")
        merger = Merger(tiles, window="triang", save_visits=False)
        for index, tile in tiles(pixels):
            merger.add(index, model(torch.from_numpy(tile)[None])[0].numpy())
    write(job["output"], profile, stored(merger.merge()))


def opensr(job: dict) -> None:
    """`opensr-utils` with its own reading, blending and writing, at factor 1."""
    from opensr_utils import super_resolve

    folder = Path(job["output"]).with_suffix(".work")  # it works beside its input
    folder.mkdir(exist_ok=True)
    link = folder / "scene.tif"
    if not link.exists():
        link.symlink_to(job["scene"])
    super_resolve(str(link), network(), job["output"], factor=1, window_size=(job["tile"], job["tile"]),
                  overlap=job["overlap"], batch_size=1, device="cpu", overwrite=True)


# geoi2i itself.

def register() -> None:
    """Make the network's name known to geoi2i, which looks names up and loads no code."""
    from geoi2i.core.networks.catalogue import NETWORKS

    NETWORKS["benchmark"] = network_class()


def geoi2i(job: dict) -> None:
    """geoi2i with the context that the network needs, and no overlap."""
    from geoi2i.core.device import reused_memory
    from geoi2i.core.models.package import ModelPackage
    from geoi2i.core.run import Compute, Options, translate_raster

    register()
    with reused_memory():
        translate_raster(job["scene"], job["output"], ModelPackage.load(job["package"]),
                         Options(tile=job["tile"], overlap=0), compute=Compute(device="cpu"), overwrite=True)


# Lower bounds.

def compute(job: dict) -> dict[str, float]:
    """The scene's pixels through the network, one window a core, and nothing else."""
    import torch

    tile = job["tile"]
    model = network().to(memory_format=torch.channels_last)
    window = torch.rand(1, BANDS, tile, tile).contiguous(memory_format=torch.channels_last)
    with rasterio.open(job["scene"]) as data:
        count = -(-data.height * data.width // tile**2)

    def run(_) -> None:
        with torch.inference_mode():
            model(window)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, range(count)))
    return {"inside": time.perf_counter() - started}


def copy_plain(job: dict) -> None:
    """GDAL's own copy to a deflate GeoTIFF."""
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(job["scene"], job["output"], **PLAIN)


def copy_cog(job: dict) -> None:
    """GDAL's own copy to a COG, with geoi2i's creation options."""
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(job["scene"], job["output"], driver="COG", **COG)


# Before and after: not measured.

def scene(job: dict) -> None:
    """Makes the scene, block row by block row: broad shades, texture at every scale, sensor noise."""
    height, width, seed = job["height"], job["width"], 20
    rng = np.random.default_rng(seed)
    textures = [pink(side, rng) for side in (1024, 773)]
    profile = dict(PLAIN, count=BANDS, dtype="uint16", height=height, width=width, crs="EPSG:32632",
                   transform=rasterio.transform.from_origin(500000, 5300000, 10, 10))
    part = Path(job["scene"] + ".part")
    with rasterio.open(part, "w", **profile) as out:
        out.descriptions = [f"band {k + 1}" for k in range(BANDS)]
        for row in range(0, height, 512):
            rows, cols = np.arange(row, min(row + 512, height)), np.arange(width)
            detail = sum(t[np.ix_(rows % len(t), cols % len(t))] for t in textures)
            noise = np.random.default_rng((seed, row))
            for k in range(BANDS):
                broad = np.outer(np.sin(rows / 900 + k), np.cos(cols / 1300 - k))
                values = 2200 + 500 * k + 900 * broad + (260 + 90 * k) * detail
                values += noise.normal(0, 15, values.shape)
                band = np.clip(values, 1, 9500).astype(np.uint16)
                out.write(band, k + 1, window=Window(0, row, width, len(rows)))
    part.rename(job["scene"])


def pink(side: int, rng: np.random.Generator) -> np.ndarray:
    """A periodic field of unit variance whose amplitude falls as 1/frequency."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / frequency, s=(side, side))
    return (field / field.std()).astype(np.float32)


def prepare(job: dict) -> dict:
    """Writes the model package and, where ONNX is there, the exported network; says which versions run."""
    import torch
    from geoi2i.core.inference.steps import generator_table
    from geoi2i.core.models.manifest import BandSpec, Manifest
    from geoi2i.core.models.package import save_package

    register()
    bands = tuple(BandSpec(name=f"band {k + 1}", minimum=0, maximum=10000) for k in range(BANDS))
    level = {"kind": "mean_std", "mean": [0.0] * BANDS, "std": [1 / SCALE] * BANDS}
    manifest = Manifest(
        name="benchmark", title="Six convolutions with seeded weights", licence="CC0-1.0", bands_in=bands,
        bands_out=bands, network={"name": "benchmark", "sizes": {"width": WIDTH}}, table=generator_table(),
        normalise_in=level, normalise_out=level, margin_px=LAYERS, multiple_of=8)
    save_package(Path(job["package"]), manifest, network())
    if job["onnx"]:
        image = torch.rand(1, BANDS, job["tile"], job["tile"])
        torch.onnx.export(network(), (image,), job["onnx"], dynamo=True, verbose=False)
    return {"torch": torch.__version__, "rasterio": rasterio.__version__,
            "GDAL": rasterio.__gdal_version__, "numpy": np.__version__}


def compare(job: dict) -> dict:
    """Differences of one output in stored numbers: to another output, and to the untiled network."""
    result, edge = {"max": 0, "sum": 0.0, "count": 0}, job["edge"]
    with rasterio.open(job["output"]) as ours, rasterio.open(job["reference"]) as theirs:
        for row in range(edge, ours.height - edge, 512):
            rows = min(512, ours.height - edge - row)
            part = Window(edge, row, ours.width - 2 * edge, rows)
            difference = np.abs(ours.read(window=part).astype(np.int32) - theirs.read(window=part))
            result["max"] = max(result["max"], int(difference.max()))
            result["sum"] += float(difference.sum())
            result["count"] += difference.size
    mean = result["sum"] / result["count"]
    return {"max": result["max"], "mean": mean, **(untiled(job) if job["untiled"] else {})}


def untiled(job: dict) -> dict:
    """Differences to one pass of the network over the middle of the scene, over several windows at once."""
    import torch

    with rasterio.open(job["scene"]) as data, rasterio.open(job["output"]) as ours, torch.inference_mode():
        side = min(1024, data.height - 64, data.width - 64)
        top, left = (data.height - side) // 2, (data.width - side) // 2
        pixels = data.read(window=Window(left - 16, top - 16, side + 32, side + 32)).astype(np.float32)
        exact = stored(network()(torch.from_numpy(pixels * np.float32(SCALE))[None])[0].numpy())[:, 16:-16, 16:-16]
        difference = np.abs(ours.read(window=Window(left, top, side, side)).astype(np.int32) - exact)
    return {"untiled_max": int(difference.max()), "untiled_mean": float(difference.mean())}


PROGRAMS = {f.__name__: f for f in (naive, onnx_loop, tiler, opensr, geoi2i, compute, copy_plain, copy_cog, scene,
                                    prepare, compare)}

if __name__ == "__main__":
    answer = PROGRAMS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
    print(json.dumps(answer or {}))
