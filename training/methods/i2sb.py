"""I2SB: paired translation by a Schroedinger bridge whose ends are known.

Liu et al. 2023, arXiv:2302.05872. With pairs (y, x0) of the same area, F_t the variance from the clean end to t and
B_t that from t to the source:

    x_t = (B x0 + F y) / (F + B) + sqrt(F B / (F + B)) eps
    L   = (net(x_t, t) - (x_t - x0) / sqrt F)^2

Sampling begins at the source itself, with any number of steps; at `eta` = 0 noise is drawn in the first of them alone
(the paper's deterministic variant draws none, and is trained without any). Beside `bbdm` the bridge is narrower
(deviation .19 half-way, against .71) and its end is exact.
"""

from typing import Annotated

import torch
from pydantic import Field

from ..schedules import schrodinger_bridge
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of I2SB; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    indices: Annotated[int, Field(ge=2, le=10_000, multiple_of=2)] = 1000
    beta_max: Annotated[float, Field(gt=0)] = 0.3
    """Sets the variance of the bridge."""
    sees_source: bool = False


I2SB = ProcessFamily("I2SB", Settings, lambda s: schrodinger_bridge(s.indices, s.beta_max, s.head), torch.square)
