"""What the metrics cost: seconds per gigapixel beside their peers, and the memory that rasters of any size need.

    python benchmarks/metrics.py [--size 4096] [--rounds 3] [--metrics NAME ...] [--weights DIR]
                                 [--huge | --huge-only] [--huge-size 30000] [--write docs/results/metrics.md]

Every measurement is a process of its own; time inside it is that of the metric alone, peak memory the kernel's
account of the process (`wait4`). Peers that are not installed are left out:

    pip install torchmetrics scikit-image sewar
"""

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference import ProgramError, Run, measure, missing, spread

PEAK, RATIO = 4095.0, 4
"""Largest value of the images in memory (12 bits); how many of their pixels one of MS is wide."""
LIMIT_MIB, FLAT = 2e9 / 2**20, 1.1
"""What a pair of any size may take; how much more memory the full height may take than a quarter of it."""
MANY = 16
BOUND, EVALUATE = "bound: both decoded to nowhere", "**geoi2i evaluate**"
NOTHING, USUAL = "nothing", "usual"
LABELS = {NOTHING: "*bound: patches are made, nothing is measured*", USUAL: "all usual ones of a reference at once"}


# Peers: each gets reference and prediction (3,h,w) as float32, and says what it found.

def tm_mae(x, y):
    """Mean absolute error."""
    from torchmetrics.functional import mean_absolute_error

    return mean_absolute_error(*_tensors(y, x))


def tm_rmse(x, y):
    """Root mean square error."""
    from torchmetrics.functional import mean_squared_error

    return mean_squared_error(*_tensors(y, x), squared=False)


def tm_psnr(x, y):
    """Error pooled over bands."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(*_tensors(y, x), data_range=PEAK)


def sk_psnr(x, y):
    """Error pooled over bands."""
    from skimage.metrics import peak_signal_noise_ratio

    return peak_signal_noise_ratio(x, y, data_range=PEAK)


def tm_ssim(x, y):
    """The same kernel; windows over the mirrored border count."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    return structural_similarity_index_measure(*_tensors(y, x), data_range=PEAK)


def sk_ssim(x, y):
    """Wang's windows."""
    from skimage.metrics import structural_similarity

    return structural_similarity(x, y, data_range=PEAK, channel_axis=0, gaussian_weights=True, sigma=1.5,
                                 use_sample_covariance=False)


def tm_ergas(x, y):
    """The same formula."""
    from torchmetrics.functional.image import error_relative_global_dimensionless_synthesis

    return error_relative_global_dimensionless_synthesis(*_tensors(y, x), ratio=RATIO)


def tm_sam(x, y):
    """In radian; by the arc cosine."""
    from torchmetrics.functional.image import spectral_angle_mapper

    return math.degrees(spectral_angle_mapper(*_tensors(y, x)))


def tm_scc(x, y):
    """The same windows."""
    from torchmetrics.functional.image import spatial_correlation_coefficient

    return spatial_correlation_coefficient(*_tensors(y, x))


def sewar_scc(x, y):
    """The same windows."""
    from sewar import scc

    return scc(x.transpose(1, 2, 0), y.transpose(1, 2, 0))


def sewar_q2n(x, y):
    """The same blocks."""
    from sewar.full_ref import q2n

    return q2n(x.transpose(1, 2, 0), y.transpose(1, 2, 0))


def sk_ciede2000(x, y):
    """The same formula; a white point of four digits."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return deltaE_ciede2000(*(rgb2lab((image / PEAK).clip(0, 1), channel_axis=0) for image in (x, y)),
                            channel_axis=0).mean()


def torch_nll(x, y, sigma):
    """With full=True."""
    import torch

    target, mean, sigma = map(torch.from_numpy, (x, y, sigma))
    return torch.nn.functional.gaussian_nll_loss(mean, target, sigma**2, full=True)


def _tensors(*images):
    import torch

    return [torch.from_numpy(image)[None] for image in images]


@dataclass(frozen=True)
class Peer:
    """Who else computes a metric; the note on how is the function's docstring."""

    label: str
    needs: str
    call: Callable


PEERS = {
    "mae": [Peer("torchmetrics", "torchmetrics", tm_mae)],
    "rmse": [Peer("torchmetrics", "torchmetrics", tm_rmse)],
    "psnr": [Peer("torchmetrics", "torchmetrics", tm_psnr), Peer("scikit-image", "skimage", sk_psnr)],
    "ssim": [Peer("torchmetrics", "torchmetrics", tm_ssim), Peer("scikit-image", "skimage", sk_ssim)],
    "ergas": [Peer("torchmetrics", "torchmetrics", tm_ergas)],
    "sam": [Peer("torchmetrics", "torchmetrics", tm_sam)],
    "scc_local": [Peer("torchmetrics", "torchmetrics", tm_scc), Peer("sewar", "sewar", sewar_scc)],
    "q2n": [Peer("sewar", "sewar", sewar_q2n)],
    "ciede2000": [Peer("scikit-image", "skimage", sk_ciede2000)],
    "nll": [Peer("torch", "torch", torch_nll)],
}
CALLS = {peer.call.__name__: peer.call for peers in PEERS.values() for peer in peers}


# Programs, each run as a process of its own: `metrics.py program NAME JOB.json`. They import what they need.

def images(job: dict) -> None:
    """Whole 12-bit counts: smooth noise, the same a little blurred and brighter, and its standard deviations."""
    import numpy as np
    from _inference_programs import pink

    size, rng = job["size"], np.random.default_rng(0)
    times = -(-size // 2048)
    reference, prediction = np.empty((2, 3, size, size), np.float32)
    common = pink(2048, rng)
    for k in range(3):
        field = np.tile((0.8 * common + 0.6 * pink(2048, rng)) * 550 + 1800 + 150 * k, (times, times))[:size, :size]
        soft = (2 * field + np.roll(field, 1, 0) + np.roll(field, 1, 1)) / 4
        for image, what in ((reference, field), (prediction, 0.97 * soft + 60)):
            image[k] = np.rint(what + rng.normal(0, 12, field.shape)).clip(1, PEAK)
    sigma = rng.uniform(20, 60, reference.shape).astype(np.float32)
    for name, image in (("reference", reference), ("prediction", prediction), ("sigma", sigma)):
        np.save(Path(job["folder"]) / f"{name}.npy", image)


def listed(job: dict) -> dict:
    """Metrics that can be made here, with their kind, and why others cannot."""
    from geoi2i.core.errors import Geoi2iError
    from geoi2i.core.metrics import Undefined
    from geoi2i.core.metrics.catalogue import METRICS

    kinds, left_out = {NOTHING: "paired", USUAL: "paired"}, {}
    for name, metric in METRICS.items():
        try:
            metric.make(_facts(job))
            kinds[name] = metric.kind
        except (Undefined, Geoi2iError) as error:
            left_out[name] = str(error)
    return {"kinds": kinds, "left_out": left_out}


def ours(job: dict) -> dict:
    """A metric by the product's own loop over patches, with all cores."""
    import numpy as np
    from geoi2i.core.evaluation.compare import measure_views
    from geoi2i.core.evaluation.pan_views import Interpolated, Shrunk
    from geoi2i.core.metrics import Measure, patch_of
    from geoi2i.core.metrics.catalogue import METRICS, of_bands

    name, (reference, prediction, *sigma) = job["metric"], _loaded(job)
    if name == NOTHING:
        measures = [Measure(NOTHING, "", 0.0, lambda patch: {"count": patch.valid.size}, lambda t: math.nan)]
    else:
        chosen = [m for m in METRICS.values() if m.usual and m.kind in ("paired", "sets")] if name == USUAL else [
            METRICS[name]]
        measures = [m.make(_facts(job)) for m in chosen]
    if job["kind"] == "pan":
        if name != "d_s":
            measures = [of_bands(m, range(3), range(3)) for m in measures]
        pan, ms = reference.mean(0, keepdims=True), reference[:, 1::RATIO, 1::RATIO].copy()
        shown = [prediction, pan, ms, pan]
    else:
        shown = [reference, prediction, *sigma]

    def views(size):
        sides = [size * image.shape[1] // job["size"] for image in shown]
        found = [InMemory(image[:, :side, :side]) for image, side in zip(shown, sides)]
        if job["kind"] == "pan":
            found[2:] = Interpolated(found[2], RATIO), Interpolated(Shrunk(found[3], RATIO), RATIO)
        return found

    def assemble(parts, owned):
        valid = np.logical_and.reduce([mask for _, mask in parts])
        pixels = [pixels for pixels, _ in parts]
        if job["kind"] == "pan":
            return patch_of(np.concatenate([pixels[2], pixels[1], pixels[3]]), pixels[0], valid, owned)
        return patch_of(pixels[0], np.concatenate(pixels[1:]) if sigma else pixels[1], valid, owned)

    return timed(lambda size: [a.compute() for a in measure_views(views(size), assemble, measures)][-1].value, job)


class InMemory:
    """An image in memory, read as `PhysicalView` reads a raster."""

    def __init__(self, pixels):
        self.pixels, self.shape = pixels, pixels.shape[1:]
        self.row_bytes = pixels[:, 0].nbytes

    def open(self, stack, rows_held: int) -> None:
        """Nothing to open."""

    def read(self, part):
        """Values (C,h,w) and where there is data (h,w)."""
        import numpy as np

        pixels = self.pixels[:, part.row : part.row + part.height, part.col : part.col + part.width]
        return pixels, np.ones(pixels.shape[1:], bool)


def theirs(job: dict) -> dict:
    """A peer on the whole images, with as many threads as it takes by itself."""
    import numpy as np

    found = _loaded(job)
    # Only the corner of the first call is copied: some peers refuse a part of an array.
    return timed(lambda size: float(CALLS[job["peer"]](*(np.ascontiguousarray(image[:, :size, :size])
                                                         for image in found))), job)


def timed(work: Callable[[int], float], job: dict) -> dict:
    """Seconds of the second call; the first, on a corner, loads libraries and fills caches."""
    work(min(1024, job["size"]))
    started = time.perf_counter()
    value = work(job["size"])
    return {"seconds": time.perf_counter() - started, "value": value}


def _facts(job: dict):
    from geoi2i.core.metrics.catalogue import Images

    return Images(3, 0.0, PEAK, ratio=RATIO, colours=(0, 1, 2), weights=job["weights"] and Path(job["weights"]))


def _loaded(job: dict) -> list:
    import numpy as np

    names = ("reference", "prediction", "sigma") if job["kind"] == "uncertainty" else ("reference", "prediction")
    return [np.load(Path(job["folder"]) / f"{name}.npy") for name in names]


def rasters(job: dict) -> dict:
    """A pair of rasters of 8 bits and three bands, written 512 rows at a time."""
    import numpy as np
    import rasterio
    from _inference_programs import pink
    from affine import Affine

    height, width, rng = job["height"], job["width"], np.random.default_rng(0)
    fields = np.stack([pink(2048, rng) for _ in range(3)])
    for axis in (1, 2):  # about as much detail as a camera's optics leave
        fields = sum(np.roll(fields, k, axis) for k in range(4)) / 4
    fields = fields * 32 + 110
    soft = (2 * fields + np.roll(fields, 1, 1) + np.roll(fields, 1, 2)) / 4
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512} if "tiles" in job["layout"] else {"tiled": False}
    nodata = "nodata" in job["layout"]
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32632",
               "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_300_000), "compress": "deflate", "predictor": 2,
               "interleave": "pixel", "bigtiff": "IF_SAFER", "num_threads": "all_cpus", "photometric": "RGB",
               **({"nodata": 0} if nodata else {}), **layout}
    columns = np.arange(width)
    for path, field in ((job["reference"], fields), (job["prediction"], 0.97 * soft + 4)):
        field = np.rint(field).clip(1, 250).astype(np.uint8)
        with rasterio.open(path, "w", **profile) as out:
            for row in range(0, height, 512):
                rows = row + np.arange(min(512, height - row))
                # Moved sideways from one repetition to the next, so that no two parts are the same.
                pixels = field[:, rows[:, None] % 2048, ((columns + 331 * (row // 2048)) % 2048)[None]]
                pixels += rng.integers(0, 2, (1, *pixels.shape[1:]), np.uint8)
                if nodata:  # a scene that lies askew
                    pixels[:, np.abs(columns - width / 2 - (rows[:, None] - height / 2) / 4) > 0.3 * width] = 0
                out.write(pixels, window=((row, row + len(rows)), (0, width)))
    return {"megabytes": sum(os.path.getsize(job[name]) for name in ("reference", "prediction")) / 1e6}


def reading(job: dict) -> None:
    """Both rasters decoded once, one after the other, to nowhere."""
    from geoi2i.core.raster.source import RasterSource

    for name in ("reference", "prediction"):
        for _ in RasterSource.open(job[name]).rows():
            pass


def many_workers(job: dict) -> None:
    """The evaluation with as many workers as a larger machine would have."""
    os.sched_getaffinity = lambda _: set(range(MANY))
    from geoi2i.core.evaluation.evaluate import evaluate

    evaluate(job["prediction"], reference=job["reference"])


def versions(job: dict) -> dict:
    """What runs here."""
    import rasterio

    found = {"GDAL": rasterio.__gdal_version__}
    for name in ("numpy", "torch", "rasterio", "torchmetrics", "scikit-image", "sewar"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


PROGRAMS = {f.__name__: f for f in (images, listed, ours, theirs, rasters, reading, many_workers, versions)}


# What starts and counts. It loads no data itself: a child's peak memory would include what its parent held.

def run(name: str, job: dict) -> Run:
    """One of the programs above."""
    page = Path(job["folder"]) / "job.json"
    page.write_text(json.dumps(job))
    return measure([sys.executable, __file__, "program", name, str(page)], {}, Path(job["folder"]) / "last.log")


def in_memory(arguments: argparse.Namespace, folder: str) -> tuple[list[str], str]:
    """The first table, and what it leaves out."""
    job = {"folder": folder, "size": arguments.size, "weights": arguments.weights, "kind": "paired"}
    found = run("listed", job).answer
    print("making images", flush=True)
    run("images", job)
    absent = {needs for needs in {peer.needs for peers in PEERS.values() for peer in peers} if missing(needs)}
    lines = ["| metric | s / Gpx | peak MiB | value | peer | its s / Gpx | its peak MiB | its value | its time / "
             "geoi2i's | |", "|---|--:|--:|--:|---|--:|--:|--:|--:|---|"]
    gigapixels = arguments.size**2 / 1e9
    for name, kind in found["kinds"].items():
        if arguments.metrics and name not in arguments.metrics:
            continue
        peers = [peer for peer in PEERS.get(name, []) if peer.needs not in absent]
        runs: dict[str, list[Run]] = {label: [] for label in ("", *(peer.label for peer in peers))}
        failed: dict[str, str] = {}
        # Ours and the peers in turn, so that a ratio compares what ran side by side.
        for _, peer in itertools.product(range(arguments.rounds), [None, *peers]):
            label = peer.label if peer else ""
            if label in failed:
                continue
            try:
                part = {"metric": name, "kind": kind} | ({"peer": peer.call.__name__} if peer else {})
                runs[label].append(run("theirs" if peer else "ours", job | part))
            except ProgramError as error:
                failed[label] = str(error)
                print(f"{name} {label}: {error}", flush=True)
                continue
            last = runs[label][-1]
            print(f"{name} {label or 'geoi2i'}: {last.answer['seconds']:.2f} s, {last.rss_mib:.0f} MiB, "
                  f"value {last.answer['value']:.9g}", flush=True)
        lines += rows_of(name, runs, failed, peers, gigapixels)
    reasons = "; ".join(f"`{name}`" for name in found["left_out"])
    return lines, f"Not measured, for they need weights or a package beside: {reasons}." if reasons else ""


def rows_of(name: str, runs: dict[str, list[Run]], failed: dict[str, str], peers: list[Peer], gigapixels: float
            ) -> list[str]:
    """A line for each peer of a metric, or one without."""
    def cells(label):
        done = runs[label]
        if label in failed:
            return [f"not run: {failed[label][:60].replace('|', ' ')}", "-", "-"]
        value = done[-1].answer["value"]
        return [spread([r.answer["seconds"] / gigapixels for r in done], 1), f"{max(r.rss_mib for r in done):.0f}",
                "-" if name in LABELS or math.isnan(value) else f"{value:.7g}"]

    first = [LABELS.get(name, f"`{name}`"), *cells("")]
    lines = []
    for peer in peers:
        ratios = [its.answer["seconds"] / mine.answer["seconds"] for its, mine in zip(runs[peer.label], runs[""])]
        lines.append(" | ".join([*first, peer.label, *cells(peer.label), spread(ratios, 2),
                                 peer.call.__doc__.rstrip(".")]))
    return [f"| {line} |" for line in lines or [" | ".join([*first, *"-----", ""])]]


def from_disk(arguments: argparse.Namespace, folder: str) -> tuple[list[str], list[str]]:
    """The second table and what was to be shown by it."""
    size, quarter = arguments.huge_size, arguments.huge_size // 4
    lines = ["| height x width | stored in | both, MB | program | wall s | CPU s | s / Gpx | peak MiB |",
             "|---|---|--:|---|--:|--:|--:|--:|"]
    plans = [(quarter, quarter, "tiles of 512", ""), (quarter, quarter, "tiles of 512, nodata", ""),
             (quarter, size, "strips of a row", ""), (quarter, size, "tiles of 512", f"the same with {MANY} workers"),
             (size, size, "tiles of 512", "")]
    peaks: dict[tuple, float] = {}
    for height, width, layout, more in plans:
        job = {"folder": folder, "height": height, "width": width, "layout": layout,
               "reference": str(Path(folder) / "reference.tif"), "prediction": str(Path(folder) / "prediction.tif")}
        print(f"making a pair of {height} x {width}, {layout}", flush=True)
        megabytes = run("rasters", job).answer["megabytes"]
        for program in (BOUND, EVALUATE, *filter(None, [more])):
            place = f"| {height} x {width} | {layout} | {megabytes:.0f} | {program} |"
            try:
                done = on_disk(program, job)
            except ProgramError as error:
                print(f"{place} {error}", flush=True)
                lines.append(f"{place} not run: {str(error)[:80].replace('|', ' ')} | | | |")
                continue
            print(f"{height} x {width} {layout}, {program}: {done.wall:.0f} s, CPU {done.cpu:.0f} s, "
                  f"{done.rss_mib:.0f} MiB, others {done.others:.1f} cores", flush=True)
            # Workers beyond the cores only show what they hold.
            times = ["-"] * 3 if program == more else [f"{done.wall:.0f}", f"{done.cpu:.0f}",
                                                       f"{done.wall / (height * width) * 1e9:.0f}"]
            lines.append(f"{place} {' | '.join(times)} | {done.rss_mib:.0f} |")
            peaks[height, width, layout, program] = done.rss_mib
        for name in ("reference", "prediction"):
            os.unlink(job[name])
    targets = ["| target | bound | measured | |", "|---|--:|--:|---|"]
    for (height, width, layout, program), mib in peaks.items():
        if program != BOUND:
            targets.append(verdict(f"{height} x {width}, {layout}, {program}: peak MiB (2 GB)", LIMIT_MIB, mib, 0))
    heights = [peaks.get((height, size, "tiles of 512", EVALUATE)) for height in (size, quarter)]
    if all(heights):
        targets.append(verdict("peak memory at full height / at a quarter of it", FLAT, heights[0] / heights[1], 2))
    return lines, targets


def on_disk(program: str, job: dict) -> Run:
    """One program on the pair that was written."""
    if program == EVALUATE:
        command = [sys.executable, "-m", "geoi2i", "evaluate", "--prediction", job["prediction"], "--reference",
                   job["reference"], "--json", str(Path(job["folder"]) / "scores.json"), "--overwrite"]
        return measure(command, {}, Path(job["folder"]) / "last.log")
    return run("reading" if program == BOUND else "many_workers", job)


def verdict(text: str, bound: float, measured: float, digits: int) -> str:
    """A line of the targets."""
    return (f"| {text} | {bound:.{digits}f} | {measured:.{digits}f} | "
            f"{'met' if measured <= bound else '**not met**'} |")


def machine(folder: str, loads: list[float]) -> str:
    """What was measured on, and how quiet it was."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    shown = ", ".join(f"{name} {version}" for name, version in run("versions", {"folder": folder}).answer.items())
    return (f"{model}, {len(os.sched_getaffinity(0))} cores, no GPU used, Python {platform.python_version()}, {shown}. "
            f"Load average {loads[0]:.1f} before, {loads[1]:.1f} after.")


def benchmark(arguments: argparse.Namespace, folder: str) -> str:
    """Everything from the images to the page."""
    loads, sections = [os.getloadavg()[0]], []
    if not arguments.huge_only:
        rows, left_out = in_memory(arguments, folder)
        for path in Path(folder).glob("*.npy"):
            path.unlink()
        sections += ["## In memory", "", (
            f"Images of {arguments.size} x {arguments.size} x 3 bands, whole 12-bit counts in float32, "
            f"{arguments.rounds} rounds in turn; seconds per gigapixel (10^9 pixels of three bands) without the "
            "process's start, median [range]; ratios are paired within a round. geoi2i measures patch by patch in "
            "float64 with all cores, a peer the whole image as its users call it: torchmetrics in float32 with "
            "torch's threads. Peak memory is that of the process with the images "
            f"({arguments.size**2 * 24 / 2**20:.0f} MiB a pair) and libraries. A dash: torchmetrics does not compute "
            "the same thing (UQI, D_lambda, D_s, SCC of DLPan), or nothing like it. PSNR, RMSE, MAE, bias and ERGAS "
            "are made of the same sums, as are the histograms' distances and the two energies: together they cost "
            "what one does."), "", *rows, "", left_out, ""]
    if arguments.huge:
        rows, targets = from_disk(arguments, folder)
        sections += ["## From disk", "", (
            "Pairs of 3 bands of 8 bits, deflate with predictor; `geoi2i evaluate --prediction --reference` with the "
            "usual metrics in a process of its own, imports included; it reads the prediction a second time to find "
            "clipped values. The bound decodes both rasters once, one after the other. Workers beyond this machine's "
            "cores show what a larger machine would hold, not its time; nodata is 0 around a scene that lies askew."),
                     "", *rows, "", "## Targets", "", *targets, ""]
    loads.append(os.getloadavg()[0])
    return "\n".join(["# Metrics: time and memory", "", "Made by `python benchmarks/metrics.py --write`; do not edit.",
                      "", machine(folder, loads), "", *sections])


def main() -> None:
    if sys.argv[1:2] == ["program"]:
        return print(json.dumps(PROGRAMS[sys.argv[2]](json.loads(Path(sys.argv[3]).read_text())) or {}))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the images in memory (default: 4096)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs in memory (default: 3)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="only these, of geoi2i evaluate --list, or "
                        f"{NOTHING} or {USUAL}")
    parser.add_argument("--weights", metavar="DIR", help="folder of network weights, as of geoi2i evaluate")
    parser.add_argument("--huge", action="store_true",
                        help="also rasters on disk, larger than memory (default: not)")
    parser.add_argument("--huge-only", action="store_true", help="only these")
    parser.add_argument("--huge-size", type=int, default=30_000, help="their side in pixels (default: 30000)")
    parser.add_argument("--folder", help="where the data is put meanwhile, 4 GB (default: the system's)")
    parser.add_argument("--write", type=Path, help="write the page here")
    arguments = parser.parse_args()
    if arguments.size < 512 or arguments.size % 128 or arguments.rounds < 1 or arguments.huge_size < 1024:
        parser.error("--size must be a multiple of 128 from 512, --rounds at least 1, --huge-size at least 1024.")
    arguments.huge = arguments.huge or arguments.huge_only
    with tempfile.TemporaryDirectory(prefix="geoi2i-metrics-", dir=arguments.folder) as folder:
        text = benchmark(arguments, folder)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
