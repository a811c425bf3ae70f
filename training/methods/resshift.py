"""ResShift: paired super-resolution by shifting the residual between source and target, in few steps.

Yue et al. 2023, arXiv:2307.12348. With pairs (y, x0) of the same area and eta from nearly 0 to nearly 1:

    x_t = x0 + eta_t (y - x0) + kappa sqrt(eta_t) eps
    L   = (net(x_t, y, t) - x0)^2

Sampling begins at the source under noise of deviation kappa sqrt(eta_T). The network gives the clean image, natively.
The paper works on the latents of an autoencoder, for which kappa is 2; in pixels of [-1, 1] that is more than they
span. Its perceptual term is left out. Beside `i2sb` most of the noise stands at the source's end.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from ..schedules import residual_shifting
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of ResShift; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 15
    indices: Annotated[int, Field(ge=2, le=10_000)] = 15
    kappa: Annotated[float, Field(gt=0)] = 2.0
    """Deviation of the noise, as a share of sqrt(eta)."""
    first: Annotated[float, Field(gt=0, lt=1)] = 0.04
    """kappa sqrt(eta_1)."""
    last: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """sqrt(eta_T)."""
    power: Annotated[float, Field(gt=0)] = 0.3
    """How early eta grows; the smaller the earlier."""
    head: Literal["clean"] = "clean"


RESSHIFT = ProcessFamily("ResShift", Settings, lambda s: residual_shifting(s.indices, s.kappa, s.first, s.last,
                                                                          s.power), torch.square)
