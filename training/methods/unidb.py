"""UniDB: paired translation by a controlled Ornstein-Uhlenbeck bridge.

Zhu et al. 2025, arXiv:2502.05749. With pairs (y, x0) of the same area, m from 1 to nearly 0 and f from 0 to 0:

    x_t = m_t x0 + (1 - m_t) y + f_t eps
    L   = | mean of x_{t-1} that the network's eps gives - that of eps |

Sampling begins at the source itself, where there is no noise to ask for. With `control` 0 it is GOUB. Images of the
paper are in [0, 1] and its deviation 30/255, which is 60/255 here. Beside `i2sb` most of the way is gone early.
"""

from typing import Annotated

import torch
from pydantic import Field

from ..schedules import controlled_bridge
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of UniDB; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=2, le=1000)] = 100
    indices: Annotated[int, Field(ge=2, le=10_000)] = 100
    deviation: Annotated[float, Field(gt=0)] = 60 / 255
    """lambda, that of the process left alone."""
    control: Annotated[float, Field(ge=0)] = 1e-7
    """1/gamma; the larger, the less the end is held at the source."""


UNIDB = ProcessFamily("UniDB", Settings, lambda s: controlled_bridge(s.indices, s.deviation, s.control, s.head),
                      torch.abs)
