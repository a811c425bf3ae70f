"""Training steps a second: the product's loop in several arithmetics against the loop as anybody writes it."""

import contextlib
import importlib.util
import itertools
import math
from types import SimpleNamespace

import torch

from .common import Forced, Job, compile_options

GOAL = 2.0
WAYS = ("plain", "fp32", "TF32", "bf16", "bf16, compiled")
METHODS = ("regression", "flow", "cut", "unsb", "latent")


def run(job: Job) -> None:
    """CUT and UNSB beside the plain loops of `benchmarks/training.py`, the others beside a loop over their losses; what
    is compiled comes last, for compiling takes longest."""
    there = [name for name in METHODS if _possible(job, name)]
    found = {name: {} for name in there}
    for way, name in itertools.product(WAYS, there):
        what = f"{name}, {way}"
        if "compiled" in way and job.toy and name != there[0]:
            job.tell(table="left out", what=what, why="one is enough to show that it runs")
        elif job.fits(what, 30 if "compiled" in way else 4):
            speed = job.tried(what, lambda way=way, name=name: _steps_a_second(job, name, way))
            if speed:
                found[name][way] = speed
                job.tell(table="training", method=name, way=way, steps_per_s=speed,
                         times_plain=speed / found[name].get("plain", math.nan))
    for name, ways in found.items():
        if "plain" in ways and len(ways) > 1:
            ratio = max(speed for way, speed in ways.items() if way != "plain") / ways["plain"]
            job.goal(f"training of {name}, best way / plain loop", f"at least {GOAL}", ratio, ratio >= GOAL)


def _possible(job: Job, name: str) -> bool:
    """Whether the packages are there that a method needs; says which are not."""
    needed = {"lightning_fabric", *(["diffusers"] if name == "latent" else [])}
    missing = sorted(each for each in needed if importlib.util.find_spec(each) is None)
    if missing:
        job.tell(table="left out", what=name, why=f"{', '.join(missing)} is not there")
    return not missing


def _steps_a_second(job: Job, name: str, way: str) -> float:
    precision = "bf16" if way.startswith("bf16") else "fp32"
    # The plain loop has torch's defaults, which round convolutions to TF32 on a GPU.
    arithmetic = contextlib.nullcontext() if way == "plain" else Forced(way != "fp32")
    with arithmetic:
        step = _latent(job, way, precision) if name == "latent" else _method(job, name, way, precision)
        torch.manual_seed(0)
        side = job.sizes.window_px
        batch = {key: torch.rand(1, 3, side, side, device=job.device) * 2 - 1
                 for key in ("source", "source2", "target")}

        def several() -> None:
            for _ in range(job.sizes.steps):
                step(batch)

        step(batch)
        return job.sizes.steps / job.seconds(several, rounds=2 if not job.toy else 1)


def _method(job: Job, name: str, way: str, precision: str):
    """A function that makes one step of a method."""
    from geoi2i.training.processes import connect

    import training as benchmark

    fabric, _ = connect(str(job.device))
    wanted = SimpleNamespace(width=job.sizes.width, side=job.sizes.window_px)
    if name in ("cut", "unsb"):
        if way == "plain":
            return benchmark.Plain(name, fabric, wanted).step
        ours = benchmark.Ours(name, fabric, wanted, precision)
        return _compiled(job, ours, way).step
    run = _started(name, fabric, job, precision)
    return _over(job, run, fabric, way)


def _started(name: str, fabric, job: Job, precision: str):
    """A run of plain regression or of flow matching."""
    from geoi2i.training.loop import start_run
    from geoi2i.training.methods import METHODS
    from geoi2i.training.recipe import Recipe

    method, network, settings = {"regression": ("pix2pix", "resnet", {"lambda_gan": 0}),
                                 "flow": ("flow", "unet", {})}[name]
    return start_run(Recipe.model_validate({
        "name": name, "method": method, "bands": {side: [{"name": c, "minimum": -1, "maximum": 1} for c in "rgb"]
                                                  for side in ("source", "target")},
        "data": {"window_px": job.sizes.window_px},
        "network": {"name": network, "sizes": {"width": job.sizes.width}}, "budget": {"precision": precision},
        "settings": METHODS[method].settings_type(**settings).model_dump()}), fabric)


def _latent(job: Job, way: str, precision: str):
    """C-DiffSET on a tiny autoencoder and U-Net of random weights."""
    import copy

    from geoi2i.core.networks.latent import Autoencoder, LatentUNet
    from geoi2i.core.networks.latent_sizes import AutoencoderSizes, AutoencoderSpec, LatentUNetSizes
    from geoi2i.training.methods.cdiffset import CDiffSET, Settings
    from geoi2i.training.processes import connect
    from geoi2i.training.recipe import Recipe
    from geoi2i.training.state import Run

    fabric, _ = connect(str(job.device))
    torch.manual_seed(0)
    width = 8 * max(1, job.sizes.width // 8)
    unet = LatentUNet(LatentUNetSizes(bands_in=8, bands_out=5, width=width, levels=1, layers=1, widest=2, head_px=8,
                                      groups=8, context=32, words=7))
    codec = Autoencoder(AutoencoderSpec(sizes=AutoencoderSizes(width=width, levels=2, layers=1, widest=2, groups=8),
                                        mix=((1, 0, 0), (0, 1, 0), (0, 0, 1)))).requires_grad_(False)
    networks = {"generator": fabric.to_device(unet.train()), "codec": fabric.to_device(codec)}
    if way != "plain":
        networks = {key: network.to(memory_format=torch.channels_last) for key, network in networks.items()}
    group = {"params": list(networks["generator"].parameters()), "lr": 2e-4, "base_lr": 2e-4}
    recipe = Recipe.model_validate({"name": "latent", "method": "cdiffset", "budget": {"precision": precision},
                                    "network": {"name": "latent"}})
    ema = copy.deepcopy(networks["generator"]).requires_grad_(False)
    run = Run(recipe, CDiffSET(Settings(weights="none")), networks, {"generator": torch.optim.AdamW([group])}, ema)
    return _over(job, run, fabric, way)


def _over(job: Job, run, fabric, way: str):
    """A step over a method's losses: ours, or as it is written without a thought of speed."""
    from geoi2i.training.loop import train_step

    if way != "plain":
        _compiled(job, SimpleNamespace(run=run), way)

        def ours(batch) -> None:
            shown = {key: value.contiguous(memory_format=torch.channels_last) for key, value in batch.items()}
            train_step(run, shown, fabric)
            run.step += 1

        return ours
    networks = {key: network.to(memory_format=torch.contiguous_format) for key, network in run.networks.items()}
    optimisers = {player: torch.optim.Adam([p for name in names for p in networks[name].parameters()], 2e-4)
                  for player, names in run.method.players.items()}

    def plain(batch) -> None:
        for player, loss, _ in run.method.losses(networks, batch):
            optimisers[player].zero_grad()
            loss.backward()
            optimisers[player].step()

    return plain


def _compiled(job: Job, holder, way: str):
    """The same with its networks compiled, where the way says so."""
    if "compiled" in way:
        for network in holder.run.networks.values():
            network.compile(**compile_options(job))
    return holder
