"""Diffusions and bridges between a clean image and its source, as data; and their samplers as step tables.

Every process here is x_t = a_t x0 + b_t y + s_t eps, at indices 0 (clean) to T (begun). From index t to n < t, with
eps_hat = (x_t - a_t x_hat - b_t y) / s_t and k = a_t / a_n (what is Markov):

    sigma^2 = eta^2 s_n^2 (s_t^2 - k^2 s_n^2) / s_t^2
    x_n     = a_n x_hat + b_n y + sqrt(s_n^2 - sigma^2) eps_hat + sigma eps

which is each paper's own posterior at eta = 1, and deterministic at 0. What the network gives is turned into x_hat by
x_hat = c_skip x_t + c_out net(x_t, t): the table that ships does the same.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.sampler import Step, StepTable


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
    c_out: Tensor

    @property
    def last(self) -> int:
        """T, where sampling begins."""
        return len(self.a) - 1

    def noised(self, clean: Tensor, source: Tensor, index: Tensor) -> Tensor:
        """x_t (N,C,H,W) of pairs, each at its own index (N,), with fresh noise."""
        a, b, s = (_each(values, index, clean) for values in (self.a, self.b, self.s))
        return a * clean + b * source + s * torch.randn_like(clean)

    def wanted(self, clean: Tensor, noised: Tensor, index: Tensor) -> Tensor:
        """What the network should give for x_t (N,C,H,W), so that x_hat is the clean image."""
        c_skip, c_out = (_each(values, index, clean) for values in (self.c_skip, self.c_out))
        return (clean - c_skip * noised) / c_out

    def table(self, steps: int, eta: float, concatenate_source: bool) -> StepTable:
        """The sampler of so many steps, evenly from index T down, beginning at the source."""
        indices = [round(self.last * (1 - k / steps)) for k in range(steps)]
        rows = [self._step(t, n, eta) for t, n in zip(indices, [*indices[1:], 0])]
        return StepTable(steps=tuple(rows), concatenate_source=concatenate_source)

    def _step(self, t: int, n: int, eta: float) -> Step:
        head = {"time": float(t), "c_skip": float(self.c_skip[t]), "c_out": float(self.c_out[t])}
        if n == 0:
            return Step(**head)
        (a, b, s), (a_n, b_n, s_n) = ([float(each[k]) for each in (self.a, self.b, self.s)] for k in (t, n))
        if s == 0:  # the source itself, from which no noise can be told
            return Step(**head, pull=a_n, source=b_n, noise=eta * s_n)
        sigma = eta * s_n * max(0.0, s**2 - (a / a_n * s_n) ** 2) ** 0.5 / s
        kept = max(0.0, s_n**2 - sigma**2) ** 0.5 / s
        return Step(**head, keep=kept, pull=a_n - kept * a, source=b_n - kept * b, noise=sigma)


Head = Literal["native", "clean"]
"""What the network gives: what the paper has it give, or the clean image itself."""


def brownian_bridge(steps: int, largest_variance: float, head: Head) -> Process:
    """BBDM's: m from .001 to .999, s^2 = 2 (m - m^2) s_max; the network gives x_t - x0."""
    m = torch.cat([torch.zeros(1), torch.linspace(0.001, 0.999, steps)]).double()
    return _with_head(1 - m, m, (2 * largest_variance * (m - m * m)).sqrt(), torch.ones_like(m), head)


def schrodinger_bridge(steps: int, beta_max: float, head: Head) -> Process:
    """I2SB's: variances F forward and B backward add up to that of a symmetric schedule; gives (x_t - x0) / sqrt F."""
    half = torch.linspace(1e-4**0.5, (beta_max / steps) ** 0.5, steps, dtype=torch.float64)[: steps // 2].square()
    forward = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cat([half, half.flip(0)]).cumsum(0)])
    total = forward[-1]
    backward = total - forward
    return _with_head(backward / total, forward / total, (forward * backward / total).clamp(min=0).sqrt(),
                      forward.sqrt(), head)


def _with_head(a: Tensor, b: Tensor, s: Tensor, gain: Tensor, head: Head) -> Process:
    """`gain`: what the network's native output is multiplied by before it is taken from x_t."""
    if head == "clean":
        return Process(a, b, s, torch.zeros_like(a), torch.ones_like(a))
    return Process(a, b, s, torch.ones_like(a), -gain)


def mismatch(process: Process, network: nn.Module, clean: Tensor, source: Tensor, concatenate: bool) -> Tensor:
    """What the network gives less what it should (N,C,H,W), for pairs at indices drawn evenly from 1..T."""
    index = torch.randint(1, process.last + 1, (len(clean),)).to(clean.device)
    noised = process.noised(clean, source, index)
    shown = torch.cat([noised, source], 1) if concatenate else noised
    return network(shown, index.float(), None) - process.wanted(clean, noised, index)


def start_at_zero(generator: nn.Module) -> None:
    """Closes the level path of a generator whose output is a difference: x_hat then starts at the state."""
    nn.init.zeros_(generator.level.weight)


def _each(values: Tensor, index: Tensor, like: Tensor) -> Tensor:
    return values.to(like)[index][:, None, None, None]
