"""BBDM: paired translation by a Brownian bridge between the two images.

Li et al. 2023, arXiv:2205.07680. With pairs (y, x0) of the same area and m from .001 to .999:

    x_t = (1 - m_t) x0 + m_t y + sqrt(2 (m_t - m_t^2) s_max) eps
    L   = |net(x_t, t) - (x_t - x0)|

Sampling begins at the source itself, and with `eta` = 1 each step is the bridge's own posterior. The recipe cbbdm also
shows the source to the network at every step. The paper works on the latents of an autoencoder; here the pixels are
bridged, as in `i2sb`, which differs in its schedule, its loss and what its network gives.
"""

from typing import Annotated

import torch
from pydantic import Field

from ..schedules import brownian_bridge
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of BBDM; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 200
    indices: Annotated[int, Field(ge=2, le=10_000)] = 1000
    largest_variance: Annotated[float, Field(gt=0)] = 1.0
    """s_max: twice the variance of the noise half-way."""
    sees_source: bool = False


BBDM = ProcessFamily("BBDM", Settings, lambda s: brownian_bridge(s.indices, s.largest_variance, s.head), torch.abs)
