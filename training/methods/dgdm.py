"""DGDM: a Brownian bridge that begins half-way, at a guess (Deterministic Guidance Diffusion Model).

Yoon et al. 2023, arXiv:2312.02819. With pairs (y, x0) of the same area and m from .001 to .999:

    g   = net(y, T+1)                                               the guess
    x_t = (1 - m_t) x0 + m_t y + sqrt(2 (m_t - m_t^2) s_max) eps,   t up to `begun` T
    L   = (g - x0)^2 + (net(x_t, t) - (x_t - x0))^2

Sampling begins at x_t with the guess in the place of x0. The paper guesses with a network of its own, bends the
schedule, and works on videos; here the one network is told a time of its own for it. Beside `bbdm` half of the steps
are saved, and the noisiest ones.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.errors import RecipeError
from ...core.inference.steps import Step, StepTable
from ..diffusion import Process, mismatch, start_at_zero
from ..losses import Loss
from ..schedules import brownian_bridge
from ._process import ProcessChoices, few_steps
from ._shared import check_same_bands


class Settings(ProcessChoices):
    """The choices of DGDM; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=2, le=1000)] = 101
    """Calls of the network per image, the guess among them."""
    indices: Annotated[int, Field(ge=2, le=10_000)] = 1000
    begun: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Where on the bridge sampling begins."""
    largest_variance: Annotated[float, Field(gt=0)] = 1.0
    """s_max: twice the variance of the noise half-way."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.25


class DGDM:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = True
    sizes = {"style": 0}
    players = {"generator": ("generator",)}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = s = settings
        process: Process = brownian_bridge(s.indices, s.largest_variance, s.head)
        self.first = max(1, round(s.begun * s.indices))
        trained = (torch.arange(s.indices + 1) <= self.first).double()
        self.process = replace(process, weight=trained)

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator, by name."""
        if self.settings.steps - 1 > self.first:
            raise RecipeError(f"DGDM goes through {self.first} indices and cannot take {self.settings.steps - 1} "
                              "different steps besides the guess: lower settings.steps or raise settings.indices.")
        check_same_bands("DGDM", "its state mixes both", bands_in, bands_out)
        if self.settings.head == "native" or not self.settings.sees_source:
            start_at_zero(generator)
        return {"generator": generator}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return self._table(self.settings.steps)

    def presets(self) -> tuple[StepTable, ...]:
        """Samplers of other numbers of steps, which ship too."""
        return tuple(self._table(steps) for steps in few_steps(self.process, self.settings)
                     if 2 <= steps <= self.first + 1)

    def _table(self, steps: int) -> StepTable:
        s, first, count = self.settings, self.first, steps - 1
        bridge = self.process.table_at([round(first * (1 - k / count)) for k in range(count + 1)], s.eta,
                                       s.sees_source, s.clip)
        share, deviation = float(self.process.b[first]), float(self.process.s[first])
        guess = Step(time=float(s.indices + 1), pull=1 - share, source=share, noise=deviation)
        return bridge.model_copy(update={"steps": (guess, *bridge.steps)})

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """The one player's loss, of "source" and "target" (N,C,H,W) in [-1,1], which show the same area."""
        s, generator, source, target = self.settings, networks["generator"], batch["source"], batch["target"]
        time = torch.full((len(source),), float(s.indices + 1), device=source.device)
        guess = generator(torch.cat([source, source], 1) if s.sees_source else source, time, None)
        terms = {"guess": (guess - target).square().mean(),
                 "mismatch": mismatch(self.process, generator, target, source, s.sees_source).square().mean()}
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
