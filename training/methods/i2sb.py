"""I2SB: paired translation by a Schroedinger bridge whose ends are known.

Liu et al. 2023, arXiv:2302.05872. With pairs (y, x0) of the same ground, F_t the variance from the clean end to t and
B_t that from t to the source:

    x_t = (B x0 + F y) / (F + B) + sqrt(F B / (F + B)) eps
    L   = (net(x_t, t) - (x_t - x0) / sqrt F)^2

Sampling begins at the source itself, with any number of steps; `eta` = 0 is the paper's deterministic variant. Beside
`bbdm` the bridge is narrower (deviation .19 half-way, against .71) and its end is exact.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ...core.sampler import StepTable
from ..diffusion import Head, mismatch, schrodinger_bridge, start_at_zero
from ..losses import Loss
from ._shared import Choices, check_same_bands


class Settings(Choices):
    """The choices of I2SB; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Calls of the network per image."""
    indices: Annotated[int, Field(ge=2, le=10_000, multiple_of=2)] = 1000
    """Indices that are trained on, T."""
    beta_max: Annotated[float, Field(gt=0)] = 0.3
    """Sets the variance of the bridge."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the noise that is drawn afresh in each step; at 0 nothing is drawn."""
    head: Head = "native"
    sees_source: bool = False
    """Whether the network sees the source beside its state."""


class I2SB:
    """The method as the training loop sees it; holds settings, never state."""

    Settings = Settings
    paired = True
    sizes = {"style": 0}
    players = {"generator": ("generator",)}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        self.process = schrodinger_bridge(settings.indices, settings.beta_max, settings.head)

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator, by name."""
        check_same_bands("I2SB", "its state mixes both", bands_in, bands_out)
        if self.settings.head == "native":
            start_at_zero(generator)
        return {"generator": generator}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return self.process.table(self.settings.steps, self.settings.eta, self.settings.sees_source)

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """The one player's loss, of "source" and "target" (N,C,H,W) in [-1,1], which show the same ground."""
        off = mismatch(self.process, networks["generator"], batch["target"], batch["source"], self.settings.sees_source)
        yield Loss("generator", off.square().mean(), {"bridge": off.detach().square().mean()})

    def verdict(self, parts: dict[str, float]) -> str | None:
        return None
