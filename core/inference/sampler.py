"""The one sampling recurrence: every sampler is a table with a row per step.

    x_hat = c_skip * x + c_source * src + c_out * net(c_in * x + in_source * src, time)
    x     = keep * x + pull * x_hat + memory * x_hat_previous + source * src + noise * eps

`x_hat` is the network's estimate of the clean image, `src` the source image, `eps` a unit normal
field. A plain generator is one row; bridges, flows and diffusions are more rows of the same kind.
Training and inference use the functions below, so a model is trained on the sampler it ships with.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Randoms = Callable[[int, Tensor], Tensor]
"""`noise(number of steps taken, image (N,C,H,W)) -> unit normal field (N,C',H,W) of its size, on its device`."""

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""`net(image (N,C,H,W), time (N,), style (N,S) or None) -> image (N,C',H,W)`."""

Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(ge=0, le=1e6)]


class Step(BaseModel):
    """One row of a `StepTable`; the defaults are a feed-forward generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: Coefficient = 0.0
    """What the network is told (an index or a time; the method decides)."""
    c_in: Coefficient = 1.0
    in_source: Coefficient = 0.0
    c_skip: Coefficient = 0.0
    c_source: Coefficient = 0.0
    c_out: Coefficient = 1.0
    keep: Coefficient = 0.0
    pull: Coefficient = 1.0
    memory: Coefficient = 0.0
    source: Coefficient = 0.0
    noise: Deviation = 0.0
    """Standard deviation of the noise added after this step, in the network's range."""


class StepTable(BaseModel):
    """A sampler as data: where it starts and what each step does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=1000)]
    source_gain: Coefficient = 1.0
    """The chain starts at `source_gain * source + noise_std * eps`."""
    noise_std: Deviation = 0.0
    concatenate_source: bool = False
    """Whether the network also sees the source, as further channels after its input."""
    clip: tuple[Coefficient, Coefficient] | None = None
    """Range that `x_hat` is clamped to, in the network's range."""

    @model_validator(mode="after")
    def _ordered(self) -> "StepTable":
        if self.clip and self.clip[0] >= self.clip[1]:
            raise ValueError("the lower end of clip must be below the upper one")
        if not self.source_gain and not self.noise_std:
            raise ValueError("the chain starts from nothing: give source_gain or noise_std")
        return self

    @property
    def uses_network(self) -> bool:
        """False for a table whose every `c_out` is zero: it needs no network at all."""
        return any(step.c_out for step in self.steps)

    @property
    def mixes_input_and_output(self) -> bool:
        """Whether bands in and bands out meet in one sum, and so must be as many."""
        step = self.steps[0]
        if any(s.in_source or s.c_source or s.source for s in self.steps):
            return True
        return bool(self.source_gain and (len(self.steps) > 1 or not step.c_out or step.c_skip or step.keep))

    def state_bands(self, bands_in: int, bands_out: int) -> int:
        """Of the first state: those of the source, or of the result where the chain starts from noise alone."""
        return bands_in if self.source_gain else bands_out

    def shown_bands(self, bands_in: int, bands_out: int) -> int:
        """Of what the network sees."""
        return self.state_bands(bands_in, bands_out) + (bands_in if self.concatenate_source else 0)

    @property
    def uses_source(self) -> bool:
        """Whether steps see the source beside the state."""
        return self.concatenate_source or any(s.in_source or s.c_source or s.source for s in self.steps)

    def remembers(self, index: int) -> bool:
        """Whether the step of this number looks back at the `x_hat` of the one before."""
        return index < len(self.steps) and bool(self.steps[index].memory)

    @property
    def stochastic(self) -> bool:
        return bool(self.noise_std) or any(step.noise for step in self.steps)


def predict(table: StepTable, step: Step, network: Network | None, x: Tensor, source: Tensor | None,
            style: Tensor | None = None) -> Tensor:
    """The clean image `x_hat` (N,C,H,W) that this step sees in `x` (N,C,H,W)."""
    x_hat = step.c_skip * x if step.c_skip != 1.0 else x
    if step.c_source:
        x_hat = x_hat + step.c_source * source
    if step.c_out:
        shown = x if step.c_in == 1.0 else step.c_in * x
        if step.in_source:
            shown = shown + step.in_source * source
        if table.concatenate_source:
            shown = torch.cat([shown, source], 1)
        time = torch.full((x.shape[0],), step.time, dtype=x.dtype, device=x.device)
        out = network(shown, time, style)
        out = out if step.c_out == 1.0 else step.c_out * out
        x_hat = out if not (step.c_skip or step.c_source) else x_hat + out
    return x_hat.clamp(*table.clip) if table.clip else x_hat


def advance(step: Step, x: Tensor, x_hat: Tensor, previous: Tensor | None, source: Tensor | None,
            eps: Tensor | None) -> Tensor:
    """The state after this step; terms with a zero coefficient are not touched (and may be None)."""
    terms = [(step.keep, x), (step.pull, x_hat), (step.memory, previous), (step.source, source),
             (step.noise, eps)]
    total = None
    for coefficient, value in terms:
        if coefficient:
            term = value if coefficient == 1.0 else coefficient * value
            total = term if total is None else total + term
    return torch.zeros_like(x_hat) if total is None else total


def start(table: StepTable, source: Tensor, eps: Tensor | None) -> Tensor:
    """The first state; `eps` has the bands of `StepTable.state_bands`."""
    if not table.source_gain:
        return eps if table.noise_std == 1.0 else table.noise_std * eps
    state = source if table.source_gain == 1.0 else table.source_gain * source
    return state + table.noise_std * eps if table.noise_std else state


def sample(table: StepTable, network: Network, source: Tensor, noise: Randoms, style: Callable[[], Tensor | None],
           steps: int | None = None) -> Tensor:
    """The state X (N,C,H,W) after `steps` steps, by default all, begun at `source` (N,C',H,W).

    This is the loop that training runs on batches. Inference takes it apart: each turn becomes a stage over rows of the
    raster, whose `x_hat` is blended before `advance` (see `translator`).

    Args:
        noise: makes eps: at the start, shown the source, with the bands of the state; after each noisy step like x_hat.
        style: makes z (N,S) for each step; None where the network takes none.
    """
    x, previous = start(table, source, noise(0, source) if table.noise_std else None), None
    for number, step in enumerate(table.steps[:steps], 1):
        x_hat = predict(table, step, network, x, source, style())
        eps = noise(number, x_hat) if step.noise else None
        x, previous = advance(step, x, x_hat, previous, source, eps), x_hat
    return x


def generator_table() -> StepTable:
    """One call of the network, nothing else."""
    return StepTable(steps=(Step(),))


def identity_table() -> StepTable:
    """The translation that changes nothing and needs no network."""
    return StepTable(steps=(Step(c_skip=1.0, c_out=0.0),))


def schrodinger_bridge_times(count: int) -> list[float]:
    """UNSB's time grid t_0..t_count: increments 0, 1, 1/2, .. mapped to [0.5, 1], 0 prepended.

    Source: cyclomon/UNSB, `models/sb_model.py`; the last entry is 1 and no network sees it.
    """
    if count == 1:
        return [0.0, 1.0]
    cumulated = [0.0]
    for k in range(1, count):
        cumulated.append(cumulated[-1] + 1.0 / k)
    return [0.0] + [0.5 + 0.5 * c / cumulated[-1] for c in cumulated]


def schrodinger_bridge_table(count: int, tau: float = 0.01) -> StepTable:
    """UNSB's chain of `count` network calls as a table (Kim et al. 2024, arXiv:2305.15086).

    X_i = (1-s) X_{i-1} + s x_hat + sqrt(s (1-s) (1-t_{i-1}) tau) eps with
    s = (t_i - t_{i-1}) / (1 - t_{i-1}); the last call's `x_hat` is the result, without noise.
    """
    times = schrodinger_bridge_times(count)
    steps = []
    for i in range(count - 1):
        remaining = 1.0 - times[i]
        s = (times[i + 1] - times[i]) / remaining
        noise = (s * (1.0 - s) * remaining * tau) ** 0.5
        steps.append(Step(time=i, keep=1.0 - s, pull=s, noise=noise))
    steps.append(Step(time=count - 1))
    return StepTable(steps=tuple(steps))
