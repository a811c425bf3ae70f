"""Rolling a batch along a sampler to the state that a bridge trains its network on."""

import torch
from torch import Tensor, nn

from ..core.inference.sampler import predict, sample
from ..core.inference.steps import StepTable


@torch.no_grad()
def rollout(table: StepTable, network: nn.Module, source: Tensor, step_index: int) -> Tensor:
    """The state X_i (N,C,H,W) that step `step_index` of `table` sees, begun at `source` (N,C,H,W).

    Builds no graph and runs `network` in evaluation mode, step by step as inference does. Every
    call draws its noise and its style z ~ N(0,I) (N,S) afresh from torch's global generator.
    """
    training = network.training
    network.eval()

    def noise(number: int, image: Tensor) -> Tensor:
        if number:
            return torch.randn_like(image)
        bands = table.state_bands(source.shape[1], network.sizes.bands_out)
        return torch.randn(len(source), bands, *source.shape[2:], dtype=source.dtype, device=source.device)

    x = sample(table, network, source, noise, lambda: draw_style(network, source), step_index)
    network.train(training)
    return x


def along(table: StepTable, generator: nn.Module, images: list[Tensor], index: int) -> list[tuple[Tensor, Tensor]]:
    """The state X_i and its prediction x_hat for each batch of images, which share one call of the generator."""
    begun = torch.cat(images)
    state = rollout(table, generator, begun, index)
    made = predict(table, table.steps[index], generator, state, begun, draw_style(generator, begun))
    sizes = [len(each) for each in images]
    return list(zip(state.split(sizes), made.split(sizes)))


def draw_style(network: nn.Module, image: Tensor) -> Tensor | None:
    """A style z ~ N(0,I) of shape (N, network.style_size), one per sample of `image` (N,C,H,W)."""
    if not network.style_size:
        return None
    return torch.randn(image.shape[0], network.style_size, dtype=image.dtype, device=image.device)
