"""The one sampling recurrence: every sampler is a table with a row per step.

    x_hat = c_skip * x + c_source * src + c_out * net(c_in * x + in_source * src, time)
    x     = keep * x + pull * x_hat + memory * x_hat_previous + source * src + noise * eps

`x_hat` is the network's estimate of the clean image, `src` the source image, `eps` a unit normal
field. A plain generator is one row; bridges, flows and diffusions are more rows of the same kind.
Training and inference use the functions below, so a model is trained on the sampler it ships with.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .steps import Step, StepTable

Randoms = Callable[[int, Tensor], Tensor]
"""`noise(number of steps taken, image (N,C,H,W)) -> unit normal field (N,C',H,W) of its size, on its device`."""

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""`net(image (N,C,H,W), time (N,), style (N,S) or None) -> image (N,C',H,W)`."""


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
