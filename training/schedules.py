"""The processes of the papers, each at its own schedule and with its own target.

A network gives its paper's target (`head` "native") or the clean image itself ("clean"). Deviations are those of images
in [-1, 1]; where a paper has images in [0, 1] they are doubled.
"""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .diffusion import Head, Process

_COSINE_OFFSET, _LARGEST_BETA = 0.008, 0.999
_UNIDB_END = 0.005
"""What is left of the clean image at the end of UniDB's schedule, e^-theta_T."""


def denoising_diffusion(steps: int, schedule: Literal["linear", "scaled", "cosine"], first: float, last: float,
                        head: Head) -> Process:
    """DDPM's a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar), from noise; the network gives eps (Ho et al. 2020).

    `linear`: beta from `first` to `last`; `scaled`: its root, as Stable Diffusion has it; `cosine`: that of Nichol &
    Dhariwal 2021, which has neither.
    """
    if schedule != "cosine":
        power = 1 if schedule == "linear" else 2
        beta = torch.linspace(first ** (1 / power), last ** (1 / power), steps, dtype=torch.float64) ** power
    else:
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        share = (((t + _COSINE_OFFSET) / (1 + _COSINE_OFFSET)) * math.pi / 2).cos().square()
        beta = (1 - share[1:] / share[:-1]).clamp(max=_LARGEST_BETA)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    zero = torch.zeros_like(a)
    native = (1 / a, zero, -s / a)
    return Process(a, zero, s, *_head(native, head, a), torch.ones_like(a), (0.0, 1.0))


def residual_shifting(steps: int, kappa: float, first: float, last: float, power: float) -> Process:
    """ResShift: a = 1 - eta, b = eta, s = kappa sqrt(eta), from the source under noise; gives the clean image.

    sqrt(eta) grows from `first` / kappa to `last`, in exp((t/T)^power) (Yue et al. 2023, equations 9 and 10).
    """
    low, share = first / kappa, torch.linspace(0, 1, steps, dtype=torch.float64) ** power
    root = torch.cat([torch.zeros(1, dtype=torch.float64), low * (share * math.log(last / low)).exp()])
    eta = root.square()
    return Process(1 - eta, eta, kappa * root, *_head(None, "clean", eta), torch.ones_like(eta),
                   (1.0, float(kappa * root[-1])), markov=False)


def straight_flow(steps: int, begins: Literal["noise", "source"], deviation: float, head: Head) -> Process:
    """Flow matching: x = (1 - u) x0 + u z on a straight line, u = t/T; gives the velocity z - x0 (Lipman et al. 2023).

    z is noise, or the source with noise of one `deviation` all along, and then the network gives (x_t - x0) / u.
    """
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    zero = torch.zeros_like(u)
    native = (torch.ones_like(u), zero, -u)
    if begins == "noise":
        return Process(1 - u, zero, u, *_head(native, head, u), torch.ones_like(u), (0.0, 1.0))
    s = torch.full_like(u, deviation)
    s[0] = 0
    return Process(1 - u, u, s, *_head(native, head, u), torch.ones_like(u), (1.0, deviation))


def brownian_bridge(steps: int, largest_variance: float, head: Head) -> Process:
    """BBDM's: m from .001 to .999, s^2 = 2 (m - m^2) s_max; the network gives x_t - x0 (Li et al. 2023)."""
    m = torch.cat([torch.zeros(1), torch.linspace(0.001, 0.999, steps)]).double()
    return _bridge(1 - m, m, (2 * largest_variance * (m - m * m)).sqrt(), torch.ones_like(m), head)


def schrodinger_bridge(steps: int, beta_max: float, head: Head) -> Process:
    """I2SB's: variances F forward and B backward add up to that of a symmetric schedule; gives (x_t - x0) / sqrt F."""
    half = torch.linspace(1e-4**0.5, (beta_max / steps) ** 0.5, steps, dtype=torch.float64)[: steps // 2].square()
    forward = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cat([half, half.flip(0)]).cumsum(0)])
    total = forward[-1]
    backward = total - forward
    return _bridge(backward / total, forward / total, (forward * backward / total).clamp(min=0).sqrt(),
                   forward.sqrt(), head)


def controlled_bridge(steps: int, deviation: float, control: float, head: Head) -> Process:
    """UniDB's generalised Ornstein-Uhlenbeck bridge (Zhu et al. 2025, arXiv:2502.05749); the network gives eps.

        a = e^-theta_t (control + v_tT) / (control + v_T),  b = 1 - a,  s = sqrt(v_t v_tT / v_T)

    with v = lambda^2 (1 - e^-2theta), theta_t from the cosine schedule, and `control` = 1/gamma (0: GOUB). The loss is
    that of the reverse mean. It begins at the source itself, where the network is not asked.
    """
    t = torch.arange(steps + 3, dtype=torch.float64) / (steps + 2)  # two more than are used, as in the public code
    share = (((t + _COSINE_OFFSET) / (1 + _COSINE_OFFSET)) * math.pi / 2).cos().square()
    theta = torch.cat([torch.zeros(1, dtype=torch.float64), (1 - share[2:-1] / share[0]).cumsum(0)])
    theta = theta * (-math.log(_UNIDB_END) / theta[-1])

    def variance(angle: Tensor) -> Tensor:
        return deviation**2 * (1 - (-2 * angle).exp())

    to_end, whole = variance(theta[-1] - theta), variance(theta[-1])
    a = (-theta).exp() * (control + to_end) / (control + whole)
    s = (variance(theta) * to_end / whole).clamp(min=0).sqrt()
    native = [1 / a, -(1 - a) / a, -s / a]
    native[0][-1], native[1][-1], native[2][-1] = 0, 1, 0  # at the source
    process = Process(a, 1 - a, s, *_head(tuple(native), head, a), torch.ones_like(a), (1.0, 0.0))
    return process if head == "clean" else replace(process, weight=process.pulls() * process.c_out.abs())


def _bridge(a: Tensor, b: Tensor, s: Tensor, gain: Tensor, head: Head) -> Process:
    """A bridge that begins at the source; `gain`: what the network's output is multiplied by and taken from x_t."""
    native = (torch.ones_like(a), torch.zeros_like(a), -gain)
    return Process(a, b, s, *_head(native, head, a), torch.ones_like(a), (1.0, 0.0))


def _head(native: tuple[Tensor, Tensor, Tensor] | None, head: Head, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_source and c_out."""
    if native is None or head == "clean":
        return torch.zeros_like(like), torch.zeros_like(like), torch.ones_like(like)
    return native
