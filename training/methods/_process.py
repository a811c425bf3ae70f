"""What methods have in common that train a network to undo a process; they differ in the process and in the loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.errors import RecipeError
from ...core.inference.steps import StepTable
from ..diffusion import Head, Process, mismatch, start_at_zero
from ..losses import Loss
from ._shared import Choices, check_same_bands


class ProcessChoices(Choices):
    """The choices of every such method."""

    steps: Annotated[int, Field(ge=1, le=1000)]
    """Calls of the network per image."""
    indices: Annotated[int, Field(ge=2, le=10_000)]
    """Indices that are trained on, T."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the noise that is drawn afresh in each step; at 0 none is after the first."""
    head: Head = "native"
    """What the network gives: what the paper has it give, or the clean image."""
    sees_source: bool = True
    """Whether the network sees the source beside its state."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """The estimate of the clean image is held within this of zero, in the network's range; 0 lets it be."""


_PRESETS = (1, 4, 15, 50)
"""Steps that every model can also be run with, where its schedule has them."""


def sampler(process: Process, settings: ProcessChoices, steps: int) -> StepTable:
    """That of so many steps."""
    return process.table(steps, settings.eta, settings.sees_source, settings.clip)


def few_steps(process: Process, settings: Any) -> list[int]:
    """The numbers of steps besides `settings.steps` with which a process can be sampled."""
    fewest = 1 if process.c_out[process.last] else 2  # a step at the source itself asks no network
    return [count for count in _PRESETS if count != settings.steps and fewest <= count <= process.last]


def check_choices(method: str, process: Process, settings: ProcessChoices) -> None:
    """Raises RecipeError where the source would enter nowhere, or the sampler has more steps than there are indices."""
    if not process.mixes_source and not settings.sees_source:
        raise RecipeError(f"{method} begins at noise, so that the source enters through what the network sees alone: "
                          "give settings.sees_source = true.")
    if settings.steps > process.last:
        raise RecipeError(f"{method} has {process.last} indices and cannot take {settings.steps} different steps: "
                          "lower settings.steps or raise settings.indices.")


@dataclass(frozen=True)
class ProcessFamily:
    """A method as `METHODS` holds it; called with settings, it is what the training loop sees."""

    name: str
    settings_type: type[ProcessChoices]
    process: Callable[[Any], Process]
    """The process of given settings."""
    norm: Callable[[Tensor], Tensor]
    """Of what the network is off the paper's target, pixel by pixel."""
    paired = True
    sizes = {"style": 0}
    """What the generator differs in from the network's defaults."""

    def __call__(self, settings: ProcessChoices) -> "ProcessMethod":
        return ProcessMethod(self, settings, self.process(settings))


@dataclass(frozen=True)
class ProcessMethod:
    """The method as the training loop sees it; holds settings, never state."""

    family: ProcessFamily
    settings: ProcessChoices
    process: Process
    sizes = {"style": 0}
    players = {"generator": ("generator",)}
    lr_factor: ClassVar[dict[str, float]] = {}

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator, by name."""
        check_choices(self.family.name, self.process, self.settings)
        if self.process.mixes_source:
            check_same_bands(self.family.name, "its state mixes both", bands_in, bands_out)
        if self.settings.head == "native" or not self.settings.sees_source:
            start_at_zero(generator)
        return {"generator": generator}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return sampler(self.process, self.settings, self.settings.steps)

    def presets(self) -> tuple[StepTable, ...]:
        """Samplers of other numbers of steps, which ship too."""
        return tuple(sampler(self.process, self.settings, count) for count in few_steps(self.process, self.settings))

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """The one player's loss, of "source" and "target" (N,C,H,W) in [-1,1], which show the same area."""
        off = mismatch(self.process, networks["generator"], batch["target"], batch["source"], self.settings.sees_source)
        # Samplers want the mean of what the clean image may be, which squares teach; the paper's norm is of its target.
        norm = torch.square if self.settings.head == "clean" else self.family.norm
        loss = norm(off).mean()
        yield Loss("generator", loss, {"mismatch": loss.detach()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
