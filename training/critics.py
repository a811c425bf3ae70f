"""The networks that exist only to train a generator: patch critics, the energy and the gate."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.networks.resnet import ChannelNorm, Modulate
from .pyramid import halve


class PatchCritic(nn.Module):
    """`forward(image (N,C,H,W), time (N,)) -> scores (N,1,h,w)`, one score per patch.

    A PatchGAN whose stages blur before they drop pixels, so that its judgement does not depend on
    the lattice. Time enters after the normalisation, where it cannot be subtracted out again; a critic
    that is not `timed` takes none.
    """

    def __init__(self, bands: int, width: int = 64, levels: int = 3, norm: str = "channel",
                 embedding: int = 128, timed: bool = True):
        super().__init__()
        self.time = TimeEmbedding(embedding) if timed else None
        widths = [width * 2 ** min(k, 3) for k in range(levels + 1)]
        self.stem = nn.Conv2d(bands, width, 3, padding=1)
        self.stages = nn.ModuleList(CriticStage(a, b, norm, embedding if timed else 0) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: Tensor, time: Tensor | None = None) -> Tensor:
        condition = self.time(time) if self.time else None
        # The first features are halved but never normalised: they carry colour and level.
        x = halve(F.leaky_relu(self.stem(image), 0.2))
        for k, stage in enumerate(self.stages):
            x = stage(x, condition)
            if k + 1 < len(self.stages):
                x = halve(x)
        return single(self.head(x))


class CriticStage(nn.Module):
    """Convolution, norm, modulation by time where there is one, leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, norm: str, embedding: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = NORMS[norm](channels_out)
        self.modulate = Modulate(channels_out, embedding) if embedding else None

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = self.norm(self.conv(x))
        return F.leaky_relu(x if self.modulate is None else self.modulate(x, condition), 0.2)


class Gate(nn.Module):
    """`forward(image (N,C,H,W), time (N,)) -> weights (N,L+1)` in [0,1], fine to coarse, residual last.

    How much of each pyramid level the critic is shown. With `learned_residual` off the residual's
    weight is the constant 1, so that no gate can hide the image as a whole.
    """

    def __init__(self, bands: int, levels: int, learned_residual: bool = False, width: int = 16,
                 embedding: int = 64):
        super().__init__()
        self.learned_residual = learned_residual
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in [(bands, width), (width, 2 * width), (2 * width, 4 * width)]
        )
        self.time = TimeEmbedding(embedding)
        self.hidden = nn.Linear(4 * width + embedding, embedding)
        self.out = nn.Linear(embedding, levels + learned_residual)
        # Training starts with every weight near sigmoid(1) = 0.73: open, and not saturated.
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.ones_(self.out.bias)

    def forward(self, image: Tensor, time: Tensor) -> Tensor:
        x = image
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        x = torch.cat([x.mean((-2, -1)), self.time(time)], 1)
        weights = single(self.out(F.leaky_relu(self.hidden(x), 0.2))).sigmoid()
        return weights if self.learned_residual else F.pad(weights, (0, 1), value=1.0)


class TimeEmbedding(nn.Module):
    """Time (N,) -> embedding (N,E): sines and cosines, then two layers."""

    def __init__(self, embedding: int, frequencies: int = 32):
        super().__init__()
        self.frequencies = frequencies
        self.layers = nn.Sequential(
            nn.Linear(frequencies, embedding), nn.LeakyReLU(0.2), nn.Linear(embedding, embedding),
            nn.LeakyReLU(0.2),
        )

    def forward(self, time: Tensor) -> Tensor:
        half = self.frequencies // 2
        index = torch.arange(half, device=time.device, dtype=torch.float32)
        angle = time.float()[:, None] * torch.exp(-math.log(1000.0) * index / half)
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1))


NORMS = {
    # Critics never ship, so statistics over space are allowed here; they blind a critic to level.
    "instance": lambda channels: nn.InstanceNorm2d(channels),
    "channel": lambda channels: ChannelNorm(),
    "none": lambda channels: nn.Identity(),
}


def single(x: Tensor) -> Tensor:
    """At least single precision, which losses want."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def energies(energy: nn.Module, pairs: Sequence[Sequence[Tensor]], time: Tensor) -> tuple[Tensor, Tensor]:
    """E(pair, pair) and E(pair, pair2), a pair being a state and its prediction, as channels."""
    first, second = (torch.cat(list(pair), 1) for pair in pairs)
    return energy(torch.cat([first, first], 1), time), energy(torch.cat([first, second], 1), time)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Build a graph through networks that leaves their parameters without gradients."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
