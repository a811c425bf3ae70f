"""The one training loop: draws windows, lets the method's players step in turn, logs, checkpoints, resumes.

All randomness of a step is a function of (seed, step), so a run that is interrupted and resumed makes the
very same steps; on a CPU the weights come out bit for bit the same. Several processes take turns at these steps,
average their gradients, and so hold the same weights; the first of them alone writes.
"""

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomVerticalFlip
from lightning_fabric import Fabric
from pydantic import ValidationError
from torch import Tensor, nn

from ..core.errors import RecipeError
from ..core.files import forget_unfinished, locked, replacing, unlock
from ..core.fit import bands_named
from ..core.manifest import BandSpec
from ..core.package import build_network
from ..core.raster import RasterSource
from ..core.target import finer, seen_like, seen_on
from ..core.warp import WarpedSource
from .describe import describe, network_spec
from .losses import Loss
from .methods import METHODS
from .pairs import pair
from .preview import colour_distance, save_preview, translated
from .processes import ALONE, Processes, connect
from .recipe import Rasters, Recipe, as_json, find_rasters
from .windows import WindowSampler, share_zones

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
KEPT = (CHECKPOINT, LOG, "previews", "tensorboard")
"""What a run's folder holds."""
_LOOK_PX = 256
"""Longest side at which it is looked whether rasters show the same ground."""


@dataclass
class Run:
    """Everything a training run holds between two steps."""

    recipe: Recipe
    method: object
    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    """One for each player."""
    ema: nn.Module
    processes: Processes = ALONE
    step: int = 0
    closest: float = math.inf
    """Smallest `colour_distance` so far."""
    closest_state: dict[str, Tensor] | None = None
    """The averaged generator at that step."""


@dataclass(frozen=True)
class Domains:
    """The two sides of the data."""

    source: WindowSampler
    target: WindowSampler
    paired: bool = False
    """Whether candidates of the same number show the same ground."""

    def batch(self, recipe: Recipe, step: int) -> dict[str, Tensor]:
        """Windows of one step: `source` and `target`, of the same ground where they are paired; else `target` of the
        same zones, and other windows `source2`."""
        generator = torch.Generator().manual_seed(_seed(recipe, step))
        count = recipe.data.batch
        picks = self.source.pick(count, generator)
        source = self.source.windows(picks)
        if self.paired:
            return {"source": source, "target": self.target.windows(picks)}
        zones = self.source.candidates.zone[picks] if recipe.data.latitude_zones else None
        source2 = self.source.windows(self.source.pick(count, generator))
        return {"source": source, "source2": source2,
                "target": self.target.windows(self.target.pick(count, generator, zones))}


def train(recipe: Recipe, output: Path, *, resume: bool = False, device: str = "auto",
          report: Callable[[int, int, dict[str, float]], None] | None = None) -> Run:
    """Trains as the recipe says; `output` gets the log, previews and the checkpoint.

    Args:
        resume: whether to go on from the checkpoint in `output`, if there is one.
        report: called every `budget.log_every` steps with the step, the budget, and the mean figures; where
            several processes train, in the first of them.

    Raises:
        RecipeError: for data or settings that cannot work, for a loss that is not finite, and where
            another process trains in `output`.
    """
    fabric, processes = connect(device)
    with contextlib.ExitStack() as ending:
        with processes.together():
            run = start_run(recipe, fabric, processes)
            describe(recipe, run.method, run.networks)
            domains = open_domains(recipe)
            if processes.main:
                ending.enter_context(_alone_in(output))
            if (output / CHECKPOINT).exists():
                if not resume:
                    raise RecipeError(f"{output} holds a training run already: give --resume, or another --output.")
                _restore(run, output / CHECKPOINT)
        starts = processes.gather((run.step, as_json(recipe)))
        with processes.together():
            if any(start != starts[0] for start in starts):
                raise RecipeError("The processes do not start alike (at steps "
                                  f"{', '.join(str(step) for step, _ in starts)}; or their recipes or rasters differ): "
                                  f"let every node see the same files, {output} too.")
        _train(run, domains, fabric, output, report)
    return run


@contextlib.contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """The folder of the run, for this process to write in."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{output} cannot be a folder ({error.strerror}): choose another --output.") from error
    lock = locked(output)
    if lock is None:
        raise RecipeError(f"Another process is training in {output}: wait for it, or choose another --output.")
    try:
        forget_unfinished(output)
        yield
    finally:
        unlock(output, lock)


def _train(run: Run, domains: Domains, fabric: Fabric, output: Path,
           report: Callable[[int, int, dict[str, float]], None] | None) -> None:
    recipe, processes, main = run.recipe, run.processes, run.processes.main
    if main:
        log = _Log(output, run.step)
        watched = fixed_windows(domains, recipe, fabric)
    augment = _augmentation(recipe, domains.paired)
    parts_seen: list[dict[str, Tensor]] = []
    started, first = time.monotonic(), run.step
    while run.step < recipe.budget.steps:
        turn = processes.turn(run.step)
        torch.manual_seed(_seed(recipe, turn))
        batch = {name: fabric.to_device(windows).contiguous(memory_format=torch.channels_last)
                 for name, windows in augment(domains.batch(recipe, turn)).items()}
        parts_seen.append(train_step(run, batch, fabric))
        run.step += 1
        last = run.step == recipe.budget.steps
        figures = {}
        if main and (run.step % recipe.budget.preview_every == 0 or last):
            figures |= watch(run, watched, output / "previews" / f"step-{run.step:07d}.png")
        if run.step % recipe.budget.log_every == 0 or last:
            figures = (processes.mean(_means(parts_seen)) | figures
                       | {"seconds": (time.monotonic() - started) / (run.step - first)})
            parts_seen.clear()
        if main and figures:
            log.write(run.step, figures)
        if "seconds" in figures:
            with processes.together():
                _stop_if_broken(run, figures)
            if main and report:
                report(run.step, recipe.budget.steps, figures)
        if run.step % recipe.budget.checkpoint_every == 0 or last:
            with processes.together():
                _stop_if_diverged(run)
            memories = processes.gather(_memories(run))
            if main:
                _save(run, memories, output / CHECKPOINT)
    processes.gather("done")  # all is written when any of them returns


def train_step(run: Run, batch: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """One step of every player; returns the figures that the method logs."""
    parts: dict[str, Tensor] = {}
    for optimiser in run.optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * _rate(run.recipe, run.step)
    losses = run.method.losses(run.networks, batch)
    while made := _next(losses, run.recipe, fabric):
        player, loss, figures = made
        optimiser = run.optimisers[player]
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(loss)
        run.processes.average(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()
        parts |= figures
    decay = min(run.recipe.optimiser.ema, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        for mean, value in zip(run.ema.parameters(), run.networks["generator"].parameters()):
            mean.lerp_(value, 1 - decay)
    return parts


def _next(losses: Iterator[Loss], recipe: Recipe, fabric: Fabric) -> Loss | None:
    """The next player's loss; its networks are called in the recipe's arithmetic, gradients and steps are not."""
    narrow = recipe.budget.precision == "bf16"
    with torch.autocast(fabric.device.type, torch.bfloat16, enabled=narrow):
        return next(losses, None)


def fixed_windows(domains: Domains, recipe: Recipe, fabric: Fabric, count: int = 32) -> dict[str, Tensor]:
    """Windows to watch the run on, the same at every look."""
    batches = [domains.batch(recipe, -1 - k) for k in range(-(-count // recipe.data.batch))]
    return {name: fabric.to_device(torch.cat([batch[name] for batch in batches])) for name in ("source", "target")}


def watch(run: Run, windows: dict[str, Tensor], picture: Path) -> dict[str, float]:
    """Saves a picture of the watched windows, keeps the state if it is the closest so far, returns the distance."""
    made = translated(run.ema, run.method.steps(), windows["source"], run.networks.get("codec"))
    save_preview(picture, windows["source"], made, windows["target"])
    distance = colour_distance(made, windows["target"])
    if distance < run.closest:
        run.closest = distance
        run.closest_state = {name: value.clone() for name, value in run.ema.state_dict().items()}
    return {"colour_distance": distance}


def shipped(run: Run) -> nn.Module:
    """The generator that becomes the model."""
    if run.recipe.budget.ships == "last" or run.closest_state is None:
        return run.ema
    network = copy.deepcopy(run.ema)
    network.load_state_dict(run.closest_state)
    return network


def open_domains(recipe: Recipe) -> Domains:
    """Both sides of the data, indexed and ready to be drawn from."""
    data, bands, paired = recipe.data, recipe.bands, METHODS[recipe.method].paired
    sources, targets = ([_opened(path, rasters, specs) for path in find_rasters(rasters, side)]
                        for rasters, specs, side in ((data.source, bands.source, "source"),
                                                     (data.target, bands.target, "target")))
    for rasters, specs, side in ((sources, bands.source, "source"), (targets, bands.target, "target")):
        for raster in rasters:
            if len(raster.bands) != len(specs):
                raise RecipeError(f"{raster.path} has {len(raster.bands)} bands, and the recipe names {len(specs)} "
                                  f"({', '.join(spec.name for spec in specs)}): choose them with data.{side}.bands.")
    if data.scale != 1:
        sources = [finer(raster, data.scale) for raster in sources]
    if data.match_grid:
        targets = ([_seen_by(source, raster) for raster, source in zip(targets, sources)] if paired
                   else [seen_like(raster, sources[0].grid) for raster in targets])
    if bands.normalise_out and bands.normalise_out.percentiles:
        raise RecipeError("A model needs one normalisation for all that it gives: give bands.normalise_out of kind "
                          "range or mean_std.")
    sides = [WindowSampler(rasters, normaliser, data.window_px, data.min_valid, data.latitude_zones)
             for rasters, normaliser in ((sources, bands.normalise_in), (targets, bands.normalise_out))]
    if paired:
        pair(*sides, data.min_valid)
    elif data.latitude_zones:
        share_zones(*sides)
    return Domains(*sides, paired)


def _opened(path: str, rasters: Rasters, specs: Sequence[BandSpec]) -> RasterSource:
    """A raster with the recipe's bands: those that it names, else those of the same names, else all in order."""
    raster = RasterSource.open(path, rasters.bands)
    if rasters.bands is None and (named := bands_named(raster, specs)):
        return raster if named == raster.indexes else RasterSource.open(path, named)
    return raster


def _seen_by(source: RasterSource | WarpedSource, target: RasterSource) -> WarpedSource:
    """A target on the very pixels of its source."""
    seen = seen_on(target, source.grid)
    mask = seen.decimated(_LOOK_PX).mask
    if mask is not None and not mask.any():
        raise RecipeError(f"{target.path} shows nothing of the ground of {source.path}: name rasters of the same "
                          "ground, in the same order.")
    return seen


def start_run(recipe: Recipe, fabric: Fabric, processes: Processes = ALONE) -> Run:
    """Fresh networks and optimisers; the same for the same seed."""
    torch.manual_seed(recipe.seed)
    method = METHODS[recipe.method](METHODS[recipe.method].Settings(**recipe.settings))
    bands_in, bands_out = len(recipe.bands.source), len(recipe.bands.target)
    generator = build_network(network_spec(recipe, method))
    networks = method.networks(generator, bands_in, bands_out)
    # Channels last: the norms over channels then read memory in order, and convolutions need no copies.
    networks = {name: fabric.to_device(network.train().to(memory_format=torch.channels_last))
                for name, network in networks.items()}
    _check_window(recipe, generator, networks.get("codec"))
    optimisers = {}
    for player, names in method.players.items():
        groups = [{"params": list(networks[name].parameters()), "lr": recipe.optimiser.lr,
                   "base_lr": recipe.optimiser.lr * method.lr_factor.get(name, 1.0)} for name in names]
        optimisers[player] = torch.optim.AdamW(groups, betas=recipe.optimiser.betas,
                                               weight_decay=recipe.optimiser.weight_decay)
    ema = copy.deepcopy(networks["generator"]).requires_grad_(False).eval()
    return Run(recipe, method, networks, optimisers, ema, processes)


def _check_window(recipe: Recipe, generator: nn.Module, codec: nn.Module | None) -> None:
    """Raises RecipeError for windows that the generator cannot be shown."""
    factor, side = codec.spec.factor if codec else 1, recipe.data.window_px
    multiple, least = factor * generator.stride, factor * generator.smallest_px
    if side % multiple or side < least:
        raise RecipeError(f"Windows of {side} pixels are none for network {recipe.network.name} of these sizes: give "
                          f"data.window_px a multiple of {multiple}, at least {-(-least // multiple) * multiple}.")


def _augmentation(recipe: Recipe, paired: bool) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Flips of a batch: the same of both sides where they are paired."""
    flips = [kind(p=0.5) for kind, wanted in ((RandomVerticalFlip, recipe.data.flip_rows),
                                              (RandomHorizontalFlip, recipe.data.flip_cols)) if wanted]
    if not flips:
        return lambda batch: batch
    flip = AugmentationSequential(*flips, data_keys=["input"])

    def augment(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        first, *others = batch
        flipped = {first: flip(batch[first])}
        drawn = flip._params
        return flipped | {name: flip(batch[name], params=drawn) if paired else flip(batch[name]) for name in others}

    return augment


def _seed(recipe: Recipe, step: int) -> int:
    """A seed for each step; steps of neighbouring runs do not meet."""
    return (recipe.seed * 1_000_003 + step * 7_919 + 17) % (2**63)


def _rate(recipe: Recipe, step: int) -> float:
    """The rate of a step over the highest."""
    plan, steps = recipe.optimiser, recipe.budget.steps
    if step < plan.warmup_steps:
        return step / plan.warmup_steps
    falling = min(plan.decay_fraction * steps, steps - plan.warmup_steps)
    left = min(1.0, (steps - step) / falling) if falling > 0 else 1.0
    return left if plan.decay == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def _means(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: float(torch.stack([p[name] for p in parts if name in p]).float().mean())
            for name in dict.fromkeys(n for p in parts for n in p)}


def _stop_if_broken(run: Run, figures: dict[str, float]) -> None:
    broken = [name for name, value in figures.items() if value != value or abs(value) == float("inf")]
    if broken:
        raise RecipeError(f"The loss {broken[0]!r} is not finite at step {run.step}: the last checkpoint is kept; "
                          "lower optimiser.lr and resume.")
    collapsed = run.method.verdict(figures) if run.step >= min(500, run.recipe.budget.steps) else None
    if collapsed:
        raise RecipeError(f"{collapsed} Training stopped at step {run.step}; the last checkpoint is kept.")


def _stop_if_diverged(run: Run) -> None:
    """A checkpoint is there to go on from."""
    broken = [name for name, network in run.networks.items()
              if not all(bool(value.isfinite().all()) for value in network.parameters())]
    if broken:
        raise RecipeError(f"The weights of {broken[0]} are not finite at step {run.step}: the last checkpoint is kept; "
                          "lower optimiser.lr and resume.")


class _Log:
    """The run's figures as JSON lines and, where TensorBoard is installed, as its events."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / LOG
        if self.path.exists():  # lines of steps that a resumed run makes again
            kept = [line for line in iterate_log(self.path) if line["step"] <= step]
            with replacing(self.path) as part:
                part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.board = None
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in figures.items()}}) + "\n")
        for name, value in figures.items() if self.board else ():
            self.board.add_scalar(name, value, step)
        if self.board:
            self.board.flush()


def _memories(run: Run) -> dict[str, dict[str, Any]]:
    """What this process alone remembers, pools of images say: the state of what has no weights."""
    return {name: network.state_dict() for name, network in run.networks.items() if not [*network.parameters()]}


def _save(run: Run, memories: list[dict[str, dict[str, Any]]], path: Path) -> None:
    state = {"step": run.step, "closest": run.closest, "closest_state": run.closest_state,
             "processes": run.processes.world, "recipe": json.dumps(as_json(run.recipe)), "ema": run.ema.state_dict(),
             "networks": {k: v.state_dict() for k, v in run.networks.items()}, "memories": memories,
             "optimisers": {k: v.state_dict() for k, v in run.optimisers.items()}}
    with replacing(path) as part:
        torch.save(state, part)


def _restore(run: Run, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler does
        raise RecipeError(f"{path} cannot be read ({type(error).__name__}): it is damaged. Remove it and train anew, "
                          "or choose another --output.") from error
    wanted, saved = as_json(run.recipe), {}
    with contextlib.suppress(ValidationError):  # what the file does not name has its default, as in a recipe
        saved = as_json(Recipe.model_validate_json(state["recipe"]))
    for key in wanted:
        if key not in ("budget", "package", "optimiser") and saved.get(key) != wanted[key]:
            raise RecipeError(f"{path} was made by another recipe (section {key!r} differs): resume with the same "
                              "recipe, or choose another --output.")
    made, world = state.get("processes", 1), run.processes.world
    if made != world:
        raise RecipeError(f"{path} was made with {made} process{'es' * (made > 1)}, and now there "
                          f"{'is' if world == 1 else 'are'} {world}: resume with as many as before, or choose another "
                          "--output.")
    run.step, run.closest, run.closest_state = (state[key] for key in ("step", "closest", "closest_state"))
    run.ema.load_state_dict(state["ema"])
    for name, network in run.networks.items():
        mine = state["memories"][run.processes.rank] if "memories" in state else {}
        network.load_state_dict(mine.get(name, state["networks"][name]))
    for player, optimiser in run.optimisers.items():
        now = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
        optimiser.load_state_dict(state["optimisers"][player])
        for group, wanted in zip(optimiser.param_groups, now):  # the recipe's, which may have another rate
            group.update(wanted)


def iterate_log(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's log; one that a fall cut off is left out."""
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)
