"""Flow matching: paired translation along straight lines, from noise or from the source.

Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003. With pairs (y, x0) of the same area:

    x_u = (1 - u) x0 + u z,   z noise
    L   = (net(x_u, y, u) - (z - x0))^2

Sampling takes Euler's steps from u = 1 to 0. With `begins` "source" the line runs from the source itself, with a little
noise all along, and few steps are enough. Beside `sr3` the velocity is well defined at every u.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from ..schedules import straight_flow
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of flow matching."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 15
    indices: Annotated[int, Field(ge=2, le=10_000)] = 1000
    begins: Literal["noise", "source"] = "noise"
    deviation: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Of the noise where the line begins at the source."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0


FLOW = ProcessFamily("Flow matching from the source", Settings,
                     lambda s: straight_flow(s.indices, s.begins, s.deviation, s.head), torch.square)
