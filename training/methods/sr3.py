"""SR3: paired super-resolution by a denoising diffusion that sees the source.

Saharia et al. 2021, arXiv:2104.07636. With pairs (y, x0) of the same area, y resampled to the grid of x0:

    x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps
    L   = |net(x_t, y, t) - eps|

Sampling begins at noise; the source enters only through what the network sees, so that it may have other bands than
the target. The network is told the index, where the paper draws noise levels between two of them. With the native
target the estimate of the clean image is divided by sqrt(alpha_bar), so that training must be long; `head` "clean" and
`schedule` "cosine" suit short ones. Beside `flow` the noise is not mixed in a straight line.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from ..schedules import denoising_diffusion
from ._process import ProcessChoices, ProcessFamily


class Settings(ProcessChoices):
    """The choices of SR3; the defaults are those of its paper's public code."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 100
    indices: Annotated[int, Field(ge=2, le=10_000)] = 2000
    schedule: Literal["linear", "cosine"] = "linear"
    first_beta: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    last_beta: Annotated[float, Field(gt=0, lt=1)] = 1e-2
    """Ends of the linear schedule."""
    clip: Annotated[float, Field(ge=0)] = 1.0


SR3 = ProcessFamily("SR3", Settings, lambda s: denoising_diffusion(s.indices, s.schedule, s.first_beta, s.last_beta,
                                                                  s.head), torch.abs)
