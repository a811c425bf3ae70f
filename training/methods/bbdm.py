"""BBDM: paired translation by a Brownian bridge between the two images.

Li et al. 2023, arXiv:2205.07680. With pairs (y, x0) of the same ground and m from .001 to .999:

    x_t = (1 - m_t) x0 + m_t y + sqrt(2 (m_t - m_t^2) s_max) eps
    L   = |net(x_t, t) - (x_t - x0)|

Sampling begins at the source itself, and with `eta` = 1 each step is the bridge's own posterior. The recipe cbbdm also
shows the source to the network at every step. The paper works on the codes of an autoencoder; here the pixels are
bridged, as in `i2sb`, which differs in its schedule, its loss and what its network gives.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ...core.sampler import StepTable
from ..diffusion import Head, brownian_bridge, mismatch, start_at_zero
from ..losses import Loss
from ._shared import Choices, check_same_bands


class Settings(Choices):
    """The choices of BBDM; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 200
    """Calls of the network per image."""
    indices: Annotated[int, Field(ge=2, le=10_000)] = 1000
    """Indices that are trained on, T."""
    largest_variance: Annotated[float, Field(gt=0)] = 1.0
    """s_max: twice the variance of the noise half-way."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the noise that is drawn afresh in each step; at 0 nothing is drawn."""
    head: Head = "native"
    sees_source: bool = False
    """Whether the network sees the source beside its state."""


class BBDM:
    """The method as the training loop sees it; holds settings, never state."""

    Settings = Settings
    paired = True
    sizes = {"style": 0}
    players = {"generator": ("generator",)}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        self.process = brownian_bridge(settings.indices, settings.largest_variance, settings.head)

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator, by name."""
        check_same_bands("BBDM", "its state mixes both", bands_in, bands_out)
        if self.settings.head == "native":
            start_at_zero(generator)
        return {"generator": generator}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return self.process.table(self.settings.steps, self.settings.eta, self.settings.sees_source)

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """The one player's loss, of "source" and "target" (N,C,H,W) in [-1,1], which show the same ground."""
        off = mismatch(self.process, networks["generator"], batch["target"], batch["source"], self.settings.sees_source)
        yield Loss("generator", off.abs().mean(), {"bridge": off.detach().abs().mean()})

    def verdict(self, parts: dict[str, float]) -> str | None:
        return None
