"""What a training holds between two steps: made anew, kept in a checkpoint, resumed."""

import contextlib
import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from torch import Tensor, nn

from ..core.errors import RecipeError
from ..core.inference.steps import generator_table
from ..core.models.manifest import NetworkSpec
from ..core.models.normalisers import MatrixNormaliser
from ..core.models.package import build_network
from ..core.networks.catalogue import NETWORKS
from ..core.writing import replacing
from .methods import METHODS
from .methods._shared import Method
from .processes import ALONE, Processes
from .recipe import Recipe, as_json
from .validation import Comparison

_HEAD_FACTOR = 0.2


@dataclass
class Run:
    """Everything a training run holds between two steps."""

    recipe: Recipe
    method: Method
    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    """One for each player."""
    ema: nn.Module
    processes: Processes = ALONE
    step: int = 0
    front: MatrixNormaliser | None = None
    """What networks see the source through, where a closed form stands before them."""
    best: float = math.inf
    """Smallest `Judge.error` so far."""
    best_state: dict[str, Tensor] | None = None
    """The averaged generator at that step."""
    since_best: int = 0
    """Previews since then."""
    comparison: Comparison | None = None
    """With closed forms, at the end of training; None in all processes but the first."""


def start_run(recipe: Recipe, fabric: Fabric, processes: Processes = ALONE) -> Run:
    """Fresh networks and optimisers; the same for the same seed."""
    torch.manual_seed(recipe.seed)
    method = METHODS[recipe.method](METHODS[recipe.method].settings_type(**recipe.settings))
    bands_in, bands_out = len(recipe.bands.source), len(recipe.bands.target)
    generator = build_network(network_spec(recipe, method))
    if not getattr(generator, "takes_time", True) and method.steps() != generator_table():
        raise RecipeError(f"Network {recipe.network.name} takes no time, and method {recipe.method} walks in steps: "
                          "choose network resnet or unet.")
    networks = method.networks(generator, bands_in, bands_out)
    # Channels last: the norms over channels then read memory in order, and convolutions need no copies.
    networks = {name: fabric.to_device(network.train().to(memory_format=torch.channels_last))
                for name, network in networks.items()}
    _check_window(recipe, generator, networks.get("codec"))
    optimisers = {}
    for player, names in method.players.items():
        head_factor = recipe.optimiser.head_factor or (_HEAD_FACTOR if gives_images(recipe, method) else 1.0)
        groups = [{"params": parameters, "lr": recipe.optimiser.lr,
                   "base_lr": recipe.optimiser.lr * method.lr_factor.get(name, 1.0) * factor}
                  for name in names for parameters, factor in _groups(networks[name], head_factor)]
        optimisers[player] = torch.optim.AdamW(groups, betas=recipe.optimiser.betas,
                                               weight_decay=recipe.optimiser.weight_decay)
    ema = copy.deepcopy(networks["generator"]).requires_grad_(False).eval()
    return Run(recipe, method, networks, optimisers, ema, processes)


def gives_images(recipe: Recipe, method: Method) -> bool:
    """Whether what the network gives is the translation itself, and not the noise or the drift of a paired process."""
    return not METHODS[recipe.method].paired or method.steps() == generator_table()


def _groups(network: nn.Module, head_factor: float) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters with the share of the rate at which they learn: those of the head and the affine path, and others."""
    last = [value for name, value in network.named_parameters() if name.startswith(("head.", "level."))]
    others = [value for name, value in network.named_parameters() if not name.startswith(("head.", "level."))]
    return [(parameters, factor) for parameters, factor in ((others, 1.0), (last, head_factor)) if parameters]


def network_spec(recipe: Recipe, method: Method) -> NetworkSpec:
    """The generator with the bands of the recipe; a sampler that concatenates the source doubles its input."""
    shown = method.steps().shown_bands(len(recipe.bands.source), len(recipe.bands.target))
    known = NETWORKS[recipe.network.name].sizes_type.model_fields
    sizes = {"bands_in": shown, "bands_out": len(recipe.bands.target),
             **{name: size for name, size in method.sizes.items() if name in known}, **recipe.network.sizes}
    return NetworkSpec(name=recipe.network.name, sizes=sizes)


def _check_window(recipe: Recipe, generator: nn.Module, autoencoder: nn.Module | None) -> None:
    """Raises RecipeError for windows that the generator cannot be shown."""
    factor, side = autoencoder.spec.factor if autoencoder else 1, recipe.data.window_px
    multiple, least = factor * generator.stride, factor * generator.smallest_px
    if side % multiple or side < least:
        raise RecipeError(f"Network {recipe.network.name} cannot be trained on windows of {side} pixels: give "
                          f"data.window_px a multiple of {multiple}, at least {-(-least // multiple) * multiple}.")


def shipped(run: Run) -> nn.Module:
    """The generator that becomes the model."""
    recipe = run.recipe
    ships = recipe.budget.ships or (
        "best" if recipe.data.validation and METHODS[recipe.method].paired else "last")
    if ships == "last" or run.best_state is None:
        return run.ema
    network = copy.deepcopy(run.ema)
    network.load_state_dict(run.best_state)
    return network


def memories_of(run: Run) -> dict[str, dict[str, Any]]:
    """What this process alone remembers, pools of images say: the state of what has no weights."""
    return {name: network.state_dict() for name, network in run.networks.items() if not [*network.parameters()]}


def save_run(run: Run, memories: list[dict[str, dict[str, Any]]], path: Path) -> None:
    """Writes all that a run holds, and what each process remembers, at once or not at all."""
    state = {"step": run.step, "best": run.best, "best_state": run.best_state, "since_best": run.since_best,
             "processes": run.processes.world, "front": run.front and run.front.model_dump_json(),
             "recipe": json.dumps(as_json(run.recipe)), "ema": run.ema.state_dict(),
             "networks": {k: v.state_dict() for k, v in run.networks.items()}, "memories": memories,
             "optimisers": {k: v.state_dict() for k, v in run.optimisers.items()}}
    with replacing(path) as file:
        torch.save(state, file)


def restore_run(run: Run, path: Path) -> None:
    """Takes up a run where a checkpoint left it; budget, package and optimiser may be others.

    Raises:
        RecipeError: for a file that is damaged, or was made by another recipe or another number of processes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler does
        raise RecipeError(f"{path} cannot be read ({type(error).__name__}): it is damaged. Remove it and train anew, "
                          "or choose another --output.") from error
    if not {"step", "front", "best", "best_state", "since_best", "ema", "networks", "optimisers",
            "recipe"} <= state.keys():
        raise RecipeError(f"{path} was made by another version of geoi2i: train anew in another --output.")
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
    run.front = state["front"] and MatrixNormaliser.model_validate_json(state["front"])
    run.step, run.best, run.best_state, run.since_best = (
        state[key] for key in ("step", "best", "best_state", "since_best"))
    run.ema.load_state_dict(state["ema"])
    for name, network in run.networks.items():
        mine = state["memories"][run.processes.rank] if "memories" in state else {}
        network.load_state_dict(mine.get(name, state["networks"][name]))
    for player, optimiser in run.optimisers.items():
        now = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
        optimiser.load_state_dict(state["optimisers"][player])
        for group, wanted in zip(optimiser.param_groups, now):  # the recipe's, which may have another rate
            group.update(wanted)
