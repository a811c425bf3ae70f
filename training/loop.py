"""The one training loop: draws windows, lets the method's players step in turn, logs, keeps checkpoints.

All randomness of a step is a function of (seed, step), so a run that is interrupted and resumed makes the
very same steps; on a CPU the weights come out bit for bit the same. Several processes take turns at these steps,
average their gradients, and so hold the same weights; the first of them alone writes.
"""

import contextlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..core.errors import Cancelled, RecipeError
from ..core.files import Folder, describe_kind, remove_unfinished
from ..core.locks import lock_folder
from ..core.models.package import ModelPackage
from .augmentation import augmentation
from .data import Domains, open_domains, seed_of
from .export import describe
from .finetune import begin_from
from .interrupts import deferred
from .log import RunLog
from .losses import Loss
from .preview import save_preview, translated
from .processes import connect
from .recipe import Recipe, as_json
from .start import begin, solve_start
from .state import Run, memories_of, restore_run, save_run, shipped, start_run
from .validation import Judge, closed_forms, compare, judge_of, sides_of

CHECKPOINT, LOG, PREVIEWS = "checkpoint.pt", "log.jsonl", "previews"
KEPT = (CHECKPOINT, LOG, PREVIEWS, "tensorboard")
"""What a run's folder holds."""
Report = Callable[[int, int, dict[str, float]], None]
"""Told the step, the steps of the budget, and the mean figures."""
_LOCK = ".geoi2i-lock"


def train(recipe: Recipe, output: Path, *, base: ModelPackage | None = None, resume: bool = False, device: str = "auto",
          report: Report | None = None,
          message: Callable[[str], None] = lambda text: None) -> Run:
    """Trains as the recipe says; `output` gets the log, previews and the checkpoint.

    Args:
        base: a model whose weights it begins with; the recipe is one of `finetune.recipe_from`.
        resume: whether to resume from the checkpoint in `output`, if there is one.
        report: called every `budget.log_every` steps with the step, the budget, and the mean figures; where
            several processes train, in the first of them.
        message: called there with what takes its time beside the steps.

    Raises:
        Cancelled: where SIGINT or SIGTERM ended it after a step.
        RecipeError: for data or settings that cannot work, for a loss that is not finite, and where
            another process trains in `output`.
    """
    fabric, processes = connect(device)
    with contextlib.ExitStack() as ending:
        with processes.together():
            run = start_run(recipe, fabric, processes)
            describe(recipe, run.method, run.networks)
            domains, start = open_domains(recipe), None
            if processes.main:
                ending.enter_context(_alone_in(output))
            if (output / CHECKPOINT).exists():
                if not resume:
                    raise RecipeError(f"{output} holds a training run already: give --resume, or another --output.")
                restore_run(run, output / CHECKPOINT)
            elif base:
                begin_from(run, base)
            else:
                start = solve_start(recipe, run.method, run.networks, sides_of(domains, recipe), domains.paired)
        starts = processes.gather((run.step, as_json(recipe)))
        with processes.together():
            if any(start != starts[0] for start in starts):
                raise RecipeError("The processes do not start alike (at steps "
                                  f"{', '.join(str(step) for step, _ in starts)}; or their recipes or rasters differ): "
                                  f"give every node the same files, {output} too.")
        start = processes.gather(start)[0]  # the same bits in all
        if start:
            begin(run, start)
        if run.front:
            domains = domains.seen_through(run.front)
        _train(run, domains, fabric, output, report, message)
    return run


@contextlib.contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """The folder of the run, for this process to write in."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{output} cannot be a folder ({error.strerror}): choose another --output.") from error
    folder = Folder.open(output, follow=True)
    _check_kinds(folder)
    try:
        lock = lock_folder(folder, _LOCK)
    except OSError as error:
        raise RecipeError(f"Nothing can be written in {output} ({error.strerror}): choose another --output.") from error
    if lock is None:
        raise RecipeError(f"Another process is training in {output}: wait for it, or choose another --output.")
    try:
        for place in (folder, *([folder.sub(PREVIEWS)] if folder.status(PREVIEWS) else [])):
            remove_unfinished(place)
        yield
    finally:
        with contextlib.suppress(OSError):  # a system may keep a file that is open
            folder.remove(_LOCK)
        os.close(lock)


def _check_kinds(folder: Folder) -> None:
    """Raises RecipeError where a name of ours is a link, or something else that no training has made."""
    for name in KEPT:
        status = folder.status(name)
        wanted = stat.S_ISREG if name in (CHECKPOINT, LOG) else stat.S_ISDIR
        if status and not wanted(status.st_mode):
            raise RecipeError(f"{folder.path / name} is {describe_kind(status.st_mode)} that no training made: remove "
                              "it, or choose another --output.")


def _train(run: Run, domains: Domains, fabric: Fabric, output: Path, report: Report | None,
           message: Callable[[str], None]) -> None:
    """Judges closed forms, makes all steps, and judges the network beside them."""
    recipe, processes = run.recipe, run.processes
    log = judge = None
    if processes.main:
        log, judge = RunLog(output / LOG, run.step), judge_of(domains, recipe, fabric)
        before = compare(judge, closed_forms(domains, recipe, message))
        if not run.step:  # where it begins may be the best
            log.write(0, before.as_figures() | watch(run, judge, log, output / PREVIEWS / "step-0000000.png"))
        for line in before.table():
            message(line)
    # Several processes are stopped by torchrun, each at another step.
    with deferred() if processes.world == 1 else contextlib.nullcontext(lambda: False) as stopped:
        _make_steps(run, domains, fabric, output, log, judge, stopped, report, message)
    if judge and run.step:
        if run.step < recipe.budget.steps:
            message(f"Stopped at step {run.step}: {run.since_best} previews were not better (budget.patience).")
        made = translated(shipped(run), run.method.steps(), judge.source, run.networks.get("codec"))
        run.comparison = replace(before, network=judge.figures(made))
        message(run.comparison.statement())
    processes.gather("done")  # all is written when any of them returns


def _make_steps(run: Run, domains: Domains, fabric: Fabric, output: Path, log: RunLog | None, judge: Judge | None,
                stopped: Callable[[], bool], report: Report | None, message: Callable[[str], None]) -> None:
    """Makes the steps of the budget that are left.

    Args:
        log, judge: of the first process; None in others.
        stopped: whether to end after this step.
    """
    recipe, processes = run.recipe, run.processes
    augment = augmentation(recipe, domains.paired)
    parts_seen: list[dict[str, Tensor]] = []
    started, first = time.monotonic(), run.step
    last = run.step >= recipe.budget.steps
    while not last:
        turn = processes.turn(run.step)
        torch.manual_seed(seed_of(recipe, turn))
        batch = {name: fabric.to_device(windows).contiguous(memory_format=torch.channels_last)
                 for name, windows in augment(domains.batch(recipe, turn)).items()}
        parts_seen.append(train_step(run, batch, fabric))
        run.step += 1
        looks = run.step % recipe.budget.preview_every == 0 or run.step == recipe.budget.steps
        halted = stopped()
        figures: dict[str, float] = {}
        if log and run.step == first + 1 < recipe.budget.steps:
            seconds, left = time.monotonic() - started, recipe.budget.steps - run.step
            message(f"The first step took {seconds:.2g} s: {left} more take about {_duration(seconds * left)}.")
        if log and judge and looks:
            figures |= watch(run, judge, log, output / PREVIEWS / f"step-{run.step:07d}.png")
        early = looks and 0 < recipe.budget.patience <= processes.gather(run.since_best)[0]
        last = halted or early or run.step == recipe.budget.steps
        if run.step % recipe.budget.log_every == 0 or last:
            figures = (processes.mean(_means(parts_seen)) | figures
                       | {"seconds": (time.monotonic() - started) / (run.step - first)})
            parts_seen.clear()
        if log and figures:
            log.write(run.step, figures)
        if "seconds" in figures:
            with processes.together():
                _stop_if_broken(run, figures)
            if log and report:
                report(run.step, recipe.budget.steps, figures)
        if run.step % recipe.budget.checkpoint_every == 0 or last:
            with processes.together():
                _stop_if_diverged(run)
            memories = processes.gather(memories_of(run))
            if log:
                message(f"Writing the checkpoint of step {run.step} ...")
                save_run(run, memories, output / CHECKPOINT)
        if halted:
            raise Cancelled(f"Training was stopped at step {run.step}, whose checkpoint is written: continue with "
                            "--resume.")


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


def watch(run: Run, judge: Judge, log: RunLog, picture: Path) -> dict[str, float]:
    """Saves a picture of the windows that are judged on, keeps the state if it is the best so far, and returns its
    figures."""
    made = translated(run.ema, run.method.steps(), judge.source, run.networks.get("codec"))
    log.show(run.step, save_preview(picture, judge.source, made, judge.target))
    figures = judge.figures(made)
    run.since_best += 1
    if judge.error(figures) < run.best:
        run.since_best = 0
        run.best = judge.error(figures)
        run.best_state = {name: value.clone() for name, value in run.ema.state_dict().items()}
    return figures


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else (
        f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours")


def _rate(recipe: Recipe, step: int) -> float:
    """The rate of a step over the highest."""
    plan, steps = recipe.optimiser, recipe.budget.steps
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
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
    collapsed = run.method.check_collapse(figures) if run.step >= min(500, run.recipe.budget.steps) else None
    if collapsed:
        raise RecipeError(f"{collapsed} Training stopped at step {run.step}; the last checkpoint is kept: "
                          "change the recipe, or resume from it with --resume.")


def _stop_if_diverged(run: Run) -> None:
    """A checkpoint is there to resume from."""
    broken = [name for name, network in run.networks.items()
              if not all(bool(value.isfinite().all()) for value in network.parameters())]
    if broken:
        raise RecipeError(f"The weights of {broken[0]} are not finite at step {run.step}: the last checkpoint is kept; "
                          "lower optimiser.lr and resume.")
