"""Samplers as data: a table with a row of coefficients per step, checked where it comes from a file.

    x_hat = c_skip * x + c_source * src + c_out * net(c_in * x + in_source * src, time)
    x     = keep * x + pull * x_hat + memory * x_hat_previous + source * src + noise * eps

`sampler` says what these are, and carries the steps out.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(ge=0, le=1e6)]


class Step(BaseModel):
    """One row of a `StepTable`; the defaults are a feed-forward generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: Coefficient = 0.0
    """What conditions the network (an index or a time; the method decides)."""
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

    @property
    def copies(self) -> bool:
        """Whether the last state is the source, whatever the source is."""
        gain = self.source_gain
        for step in self.steps:
            gain = step.keep * gain + step.pull * (step.c_skip * gain + step.c_source) + step.source
        return gain == 1 and not (self.uses_network or self.stochastic or self.clip or self.concatenate_source
                                  or any(step.memory for step in self.steps))

    def remembers(self, index: int) -> bool:
        """Whether the step of this number looks back at the `x_hat` of the one before."""
        return index < len(self.steps) and bool(self.steps[index].memory)

    @property
    def stochastic(self) -> bool:
        return bool(self.noise_std) or any(step.noise for step in self.steps)


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
