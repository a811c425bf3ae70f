"""Diffusions, flows and bridges between a clean image and its source, as data; and their samplers as step tables.

Every process here is x_t = a_t x0 + b_t y + s_t eps, at indices 0 (clean) to T (begun). From index t to n < t, with
eps_hat = (x_t - a_t x_hat - b_t y) / s_t, and k = a_t / a_n (what is Markov) or 1 (ResShift):

    sigma^2 = eta^2 s_n^2 (s_t^2 - k^2 s_n^2) / s_t^2
    x_n     = a_n x_hat + b_n y + sqrt(s_n^2 - sigma^2) eps_hat + sigma eps

which is each paper's own posterior at eta = 1. At 0 nothing is drawn but where the chain begins: DDIM for diffusions,
Euler's steps for flows.
What the network gives is turned into x_hat by x_hat = c_skip x_t + c_source y + c_out net(c_in x_t, t): the table
that ships does the same. `training.schedules` has the processes of the papers.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.inference.steps import Step, StepTable

_DATA_STD = 0.5
"""Of images in [-1, 1], of which c_in makes states of unit deviation (Karras et al. 2022)."""

Head = Literal["native", "clean"]
"""What the network gives: what the paper has it give, or the clean image itself."""


@dataclass(frozen=True)
class Process:
    """A process at its indices 0..T; each field is (T+1,), float64."""

    a: Tensor
    """Share of the clean image."""
    b: Tensor
    """Share of the source."""
    s: Tensor
    """Standard deviation of the noise."""
    c_skip: Tensor
    c_source: Tensor
    c_out: Tensor
    """Zero where x_hat needs no network, as at the source itself."""
    weight: Tensor
    """Of an index in the loss."""
    start: tuple[float, float]
    """The chain starts at `start[0]` times the source, with noise of deviation `start[1]`."""
    markov: bool = True
    scaled: bool = True
    """Whether states are scaled to unit standard deviation before the network sees them."""

    @property
    def last(self) -> int:
        """T, where sampling begins."""
        return len(self.a) - 1

    @property
    def mixes_source(self) -> bool:
        """Whether states hold a share of the source, which then has as many bands as the result."""
        return bool(self.start[0] or self.b.any() or self.c_source.any())

    @property
    def c_in(self) -> Tensor:
        if not self.scaled:
            return torch.ones_like(self.a)
        return ((self.a**2 + self.b**2) * _DATA_STD**2 + self.s**2).rsqrt()

    def unscaled(self) -> "Process":
        """The same for a network that sees states as they are."""
        return replace(self, scaled=False)

    def noised(self, clean: Tensor, source: Tensor, index: Tensor) -> Tensor:
        """x_t (N,C,H,W) of pairs, each at its own index (N,), with fresh noise."""
        a, b, s = (_each(values, index, clean) for values in (self.a, self.b, self.s))
        mixed = a * clean + s * torch.randn_like(clean)
        return mixed + b * source if self.b.any() else mixed

    def wanted(self, clean: Tensor, noised: Tensor, source: Tensor, index: Tensor) -> Tensor:
        """What the network should give for x_t (N,C,H,W), so that x_hat is the clean image."""
        c_skip, c_source, c_out = (_each(values, index, clean) for values in (self.c_skip, self.c_source, self.c_out))
        left = clean - c_skip * noised
        return (left - c_source * source if self.c_source.any() else left) / c_out

    def shown(self, noised: Tensor, source: Tensor, index: Tensor, concatenate: bool) -> Tensor:
        """What the network sees of x_t (N,C,H,W)."""
        state = _each(self.c_in, index, noised) * noised
        return torch.cat([state, source], 1) if concatenate else state

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Indices (count,), evenly from those that have a weight in the loss."""
        trained = torch.nonzero(self.weight[1:] * self.c_out[1:])[:, 0] + 1
        return trained[torch.randint(len(trained), (count,))].to(device)

    def table(self, steps: int, eta: float, concatenate_source: bool, clip: float = 0.0) -> StepTable:
        """The sampler of so many steps, evenly from index T down; `clip` holds x_hat within +-clip, 0 lets it be."""
        return self.table_at([round(self.last * (1 - k / steps)) for k in range(steps + 1)], eta, concatenate_source,
                             clip)

    def table_at(self, indices: list[int], eta: float, concatenate_source: bool, clip: float = 0.0) -> StepTable:
        """The sampler through given indices, the last of which is where it ends."""
        rows = [self._step(t, n, eta) for t, n in pairwise(indices)]
        return StepTable(steps=tuple(rows), concatenate_source=concatenate_source, source_gain=self.start[0],
                         noise_std=self.start[1], clip=(-clip, clip) if clip else None)

    def pulls(self) -> Tensor:
        """(T+1,), the share of x_hat in the mean of the state one index earlier, at eta = 1."""
        return torch.tensor([0.0, *(self._step(t, t - 1, 1.0).pull for t in range(1, self.last + 1))]).double()

    def _step(self, t: int, n: int, eta: float) -> Step:
        head = {"time": float(t), "c_in": float(self.c_in[t]), "c_skip": float(self.c_skip[t]),
                "c_source": float(self.c_source[t]), "c_out": float(self.c_out[t])}
        if n == 0:
            return Step(**head)
        (a, b, s), (a_n, b_n, s_n) = ([float(each[k]) for each in (self.a, self.b, self.s)] for k in (t, n))
        if s == 0:  # the source itself, which holds no noise to be kept: all that the state should hold is drawn
            return Step(**head, pull=a_n, source=b_n, noise=s_n)
        k = a / a_n if self.markov else 1.0
        sigma = eta * s_n * max(0.0, s**2 - (k * s_n) ** 2) ** 0.5 / s
        kept = max(0.0, s_n**2 - sigma**2) ** 0.5 / s
        return Step(**head, keep=kept, pull=a_n - kept * a, source=b_n - kept * b, noise=sigma)


def mismatch(process: Process, network: nn.Module, clean: Tensor, source: Tensor, concatenate: bool) -> Tensor:
    """What the network gives less what it should (N,C,H,W), weighted, for pairs at indices drawn evenly."""
    index = process.draw(len(clean), clean.device)
    noised = process.noised(clean, source, index)
    given = network(process.shown(noised, source, index, concatenate), index.float(), None)
    return _each(process.weight, index, clean) * (given - process.wanted(clean, noised, source, index))


def start_at_zero(generator: nn.Module) -> None:
    """Closes the affine skip path of a generator whose output is a difference, so that x_hat starts at the state; or
    that sees states of unit deviation alone, which are twice the clean image and would be more with every step."""
    nn.init.zeros_(generator.level.weight)


def _each(values: Tensor, index: Tensor, like: Tensor) -> Tensor:
    return values.to(like)[index][:, None, None, None]
