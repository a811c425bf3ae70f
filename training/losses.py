"""The loss terms that methods are composed of; each is a function of tensors and knows no network."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .pyramid import decompose, gray


class Loss(NamedTuple):
    """What a method yields: the player to step, the scalar to minimise, and figures for the log."""

    player: str
    value: Tensor
    parts: dict[str, Tensor]


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least-squares GAN, critic: ((D(real) - 1)^2 + D(fake)^2) / 2 (Mao et al. 2017)."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def adversarial_loss(fake: Tensor) -> Tensor:
    """Least-squares GAN, generator: (D(fake) - 1)^2."""
    return (fake - 1).square().mean()


def distance(one: Tensor, two: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (one - two).abs().mean()


def cross_entropy(scores: Tensor, label: float) -> Tensor:
    """The critic's scores as logits, against one label for all (Goodfellow et al. 2014)."""
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def gradient_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """R1: half the squared norm of d(sum D) / d(real), mean over samples and pixels.

    The mean over pixels, not the sum, keeps the weight independent of the window's size
    (Mescheder et al. 2018). `real` must require a gradient.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum(1).mean()


def energy_loss(same: Tensor, other: Tensor) -> Tensor:
    """The energy's own loss: -mean E(pair, pair) + l + l^2, l = logsumexp E(pair, pair2).

    Logarithm and mean run over all patches and samples. Source: UNSB's code (Kim et al. 2024).
    """
    level = other.flatten().logsumexp(0)
    return -same.mean() + level + level.square()


def bridge_loss(state: Tensor, prediction: Tensor, same: Tensor, other: Tensor, tau: float,
                remaining: float) -> Tensor:
    """Schroedinger bridge: tau mean(X_i - x_hat)^2 - tau (T-i)/T [mean E(p,p) - logsumexp E(p,p2)].

    `remaining` is (T-i)/T. UNSB's code weights the cost with tau too; the paper's text does not.
    """
    cost = (state - prediction).square().mean()
    entropy = same.mean() - other.flatten().logsumexp(0)
    return tau * (cost - remaining * entropy)


def spatial_loss(prediction: Tensor, source: Tensor, weights: Sequence[float] | Tensor,
                 knee: float = 0.0) -> Tensor:
    """sum_j weights_j mean |gray P_j(prediction) - gray P_j(source)| over the L = len(weights) bands.

    `weights` is (L,) or, one row per sample, (N,L). The residual is left out: it carries the level
    and the colour, which are to change. Differences below `knee` count quadratically (Huber).
    """
    weights = torch.as_tensor(weights, dtype=prediction.dtype, device=prediction.device)
    # The pyramid is linear: the pyramid of a difference is the difference of the pyramids.
    bands = decompose(gray(prediction) - gray(source), weights.shape[-1])[:-1]
    zero = [torch.zeros_like(band) for band in bands]
    each = [F.smooth_l1_loss(band, none, reduction="none", beta=knee) for band, none in zip(bands, zero)]
    distances = torch.stack([distance.mean((1, 2, 3)) for distance in each], 1)
    return (weights * distances).sum(1).mean()


def ordering_penalty(weights: Tensor) -> Tensor:
    """sum_j relu(w_j - w_{j+1}), (N,L+1) -> scalar: the critic should see coarse before fine."""
    return (weights[:, :-1] - weights[:, 1:]).relu().sum(1).mean()
