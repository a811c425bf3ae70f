"""SP-I2I's gate against no gate on a toy whose sharp answer is known: a colour change with a blur.

    python benchmarks/toy_gate.py [--seeds 0 1 2] [--steps N] [--write docs/results/toy_gate.md]

Source: 64 x 64 textures in three bands. Target: OTHER textures, seen by a sensor with cross talk
between its bands, an offset, and a blur of 2.5 pixels. The right answer for a source is its colours
through that sensor without the blur; no training pixel shows it.
"""

import argparse
import copy
import platform
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from geoi2i.core.inference.sampler import predict
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.training.bridge import draw_style, rollout
from geoi2i.training.methods.sp_i2i import SPI2I
from geoi2i.training.pyramid import decompose
from torch import Tensor

SIZE_PX, BLUR_PX, SAMPLES, BATCH = 64, 2.5, 256, 4
AVERAGE_DECAY = 0.995
# Picked once for each, from trials on seed 0; the page says how.
LEARNING_RATES = {"gated": 1e-3, "no gate": 5e-4}
# Rows are the target's bands: each also sees its spectral neighbour, as wider, shifted filters do.
SENSOR = torch.tensor([[0.55, 0.40, 0.00], [0.05, 0.55, 0.35], [0.00, 0.35, 0.55]])
OFFSET = torch.tensor([-0.05, 0.05, 0.15])
SIZES = ResnetSizes(bands_in=3, bands_out=3, width=12, blocks=1, levels=1, style=16, embedding=32)
SETTINGS = {"steps": 3, "levels": 4, "lambda_sb": 0.0, "critic_width": 16, "critic_levels": 3}
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
COLUMNS = ("fine std", "fine corr", "chi2", "PSNR truth", "PSNR source")


def textures(count: int, rng: torch.Generator) -> Tensor:
    """Patches with edges, grain and their own colours: (N,3,64,64) in [0,1], bands mostly independent."""

    def field(sigma_px: float, bands: int) -> Tensor:
        noise = blur(torch.randn(count, bands, SIZE_PX, SIZE_PX, generator=rng), sigma_px)
        return noise / noise.std((2, 3), keepdim=True)

    shared = 0.5 * field(8, 1) + 0.5 * field(3, 1).sign() + 0.35 * field(0.7, 1)
    chroma = 0.5 * field(8, 3) + 0.5 * field(3, 3).sign() + 0.3 * field(0.7, 3)
    return (0.5 + 0.2 * (0.5 * shared + chroma)).clamp(0, 1)


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian low-pass, reflected at the border."""
    radius = int(4 * sigma_px + 0.5)
    feature_maps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel = (feature_maps / feature_maps.sum()).expand(image.shape[1], 1, 1, -1)
    for pad, k in [((radius, radius, 0, 0), kernel), ((0, 0, radius, radius), kernel.mT)]:
        image = F.conv2d(F.pad(image, pad, mode="reflect"), k, groups=image.shape[1])
    return image


def sensor(image: Tensor) -> Tensor:
    """The target sensor's colours, still sharp."""
    return torch.einsum("ij,njhw->nihw", SENSOR, image) + OFFSET[:, None, None]


def train(settings: dict, seed: int, steps: int, lr: float) -> tuple[ResnetGenerator, SPI2I, list[float]]:
    """A generator (its moving average), its method, and the mean gate weights of the last 100 steps."""
    rng = torch.Generator().manual_seed(1000 + seed)
    sources = textures(SAMPLES, rng) * 2 - 1
    targets = blur(sensor(textures(SAMPLES, rng)), BLUR_PX) * 2 - 1
    torch.manual_seed(seed)
    method = SPI2I(SPI2I.settings_type(**settings))
    networks = method.networks(ResnetGenerator(SIZES), 3, 3)
    optimisers = {
        player: torch.optim.Adam(
            [{"params": networks[name].parameters(), "lr": lr * method.lr_factor[name]} for name in names],
            betas=(0.5, 0.999),
        )
        for player, names in method.players.items()
    }
    # Constant at first, then linearly to zero over the second half.
    rates = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, 2 * (1 - step / steps)))
             for o in optimisers.values()]
    average, gates = copy.deepcopy(networks["generator"]), []
    for _ in range(steps):
        first, second = torch.randperm(SAMPLES)[: 2 * BATCH].split(BATCH)
        batch = {"source": sources[first], "source2": sources[second],
                 "target": targets[torch.randperm(SAMPLES)[:BATCH]]}
        for loss in method.losses(networks, batch):
            optimisers[loss.player].zero_grad()
            loss.value.backward()
            optimisers[loss.player].step()
        for rate in rates:
            rate.step()
        with torch.no_grad():
            for mean, now in zip(average.parameters(), networks["generator"].parameters()):
                mean.lerp_(now, 1 - AVERAGE_DECAY)
        # Without a gate the critic sees every level whole.
        gates.append([float(loss.parts.get(f"w_{j}", 1.0)) for j in range(SETTINGS["levels"] + 1)])
    return average, method, torch.tensor(gates[-100:]).mean(0).tolist()


@torch.no_grad()
def translate(method: SPI2I, generator: ResnetGenerator, source: Tensor) -> Tensor:
    """The last prediction of the chain, [0,1] -> [0,1]."""
    table, x = method.steps(), source * 2 - 1
    state = rollout(table, generator, x, len(table.steps) - 1)
    out = predict(table, table.steps[-1], generator, state, x, draw_style(generator, x))
    return ((out + 1) / 2).clamp(0, 1)


def match_moments(source: Tensor, target: Tensor) -> Tensor:
    """Each band's mean and standard deviation moved to the target's."""
    dims, keep = (0, 2, 3), {"keepdim": True}
    unit = (source - source.mean(dims, **keep)) / source.std(dims, **keep)
    return (unit * target.std(dims, **keep) + target.mean(dims, **keep)).clamp(0, 1)


def measure(output: Tensor, truth: Tensor, source: Tensor, target: Tensor) -> dict[str, float]:
    """The page's columns; "fine" is the finest level of the Laplacian pyramid, all bands pooled."""
    fine, fine_truth = (decompose(x, 1)[0].flatten() for x in (output, truth))
    return {
        "fine std": float(fine.std() / fine_truth.std()),
        "fine corr": float(torch.corrcoef(torch.stack([fine, fine_truth]))[0, 1]),
        "chi2": chi2(output, target),
        "PSNR truth": psnr(output, truth),
        "PSNR source": psnr(output, source),
    }


def psnr(a: Tensor, b: Tensor) -> float:
    """In decibel, for the range [0,1]."""
    error = float((a - b).square().mean())
    return -10 * torch.tensor(error).log10().item() if error else float("inf")


def chi2(a: Tensor, b: Tensor, bins: int = 31) -> float:
    """Half sum (p-q)^2 / (p+q) between the histograms of all pixels, mean over the bands."""
    total = 0.0
    for band in range(a.shape[1]):
        p, q = (torch.histc(x[:, band], bins, 0, 1) / x[:, band].numel() for x in (a, b))
        total += float(((p - q) ** 2 / (p + q).clamp(min=1e-12)).sum() / 2)
    return total / a.shape[1]


def row(name: str, figures: dict[str, float], gate: list[float] | None = None) -> str:
    weights = " ".join(f"{w:.2f}" for w in gate) if gate else ""
    return f"| {name} | {weights} | " + " | ".join(f"{figures[c]:.2f}" for c in COLUMNS) + " |"


def compare(seeds: list[int], steps: int) -> list[str]:
    """The table's lines: baselines, then each seed and the median of each setting."""
    rng = torch.Generator().manual_seed(7)
    source, target = textures(64, rng), blur(sensor(textures(64, rng)), BLUR_PX)
    truth = sensor(source)
    lines = [f"| method | gate, fine to coarse, residual | {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * 5]
    for name, output in [("identity", source), ("moment matching", match_moments(source, target)),
                         ("the truth itself", truth), ("the truth, blurred", blur(truth, BLUR_PX))]:
        lines.append(row(name, measure(output, truth, source, target)))
    print("\n".join(lines), flush=True)
    for name, gating in [("gated", True), ("no gate", False)]:
        results: list[dict[str, float]] = []
        for seed in seeds:
            generator, method, gate = train(SETTINGS | {"gating": gating}, seed, steps, LEARNING_RATES[name])
            results.append(measure(translate(method, generator, source), truth, source, target))
            lines.append(row(f"{name}, seed {seed}", results[-1], gate))
            print(lines[-1], flush=True)
        middle = {column: median(result[column] for result in results) for column in COLUMNS}
        lines.append(row(f"**{name}, median**", middle))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1300, help="training steps of each run (default: 1300)")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    lines = compare(arguments.seeds, arguments.steps)
    seconds = (time.process_time() - started) / (2 * len(arguments.seeds))
    machine = (f"{platform.machine()} CPU, one thread, torch {torch.__version__}; {arguments.steps} steps of "
               f"batch {BATCH}, {seconds:.0f} CPU seconds a run.")
    print(machine)
    if arguments.write:
        write_table(arguments.write, "\n".join([*lines, "", machine]))


def write_table(page: Path, table: str) -> None:
    """Put `table` between the page's two marks, and leave what people wrote around them alone."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"# The gate on a toy\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
