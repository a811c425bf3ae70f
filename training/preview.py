"""Looking at a training run: its fixed windows translated, as a picture and as a distance in colour."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.inference.sampler import predict
from ..core.inference.steps import StepTable
from ..core.metrics import sliced_wasserstein
from ..core.networks.latent import Autoencoder
from ..core.raster.pictures import write_png
from .bridge import draw_style, rollout

_COARSE_PX = 4
_LEAST_PX, _LINE_PX, _LOW = 192, 4, 0.02
"""Side that windows are enlarged towards, width of the lines between them, and the share of values shown as black."""


@torch.no_grad()
def translated(network: nn.Module, table: StepTable, source: Tensor, autoencoder: Autoencoder | None = None) -> Tensor:
    """All steps of a sampler from `source` (N,C,h,w), with the same noise at every call; on latents where there is a
    autoencoder."""
    if autoencoder:
        latents = autoencoder.encode(autoencoder.mixed(source))
        return autoencoder.decode(translated(_Main(network, latents.shape[1]), table, latents))
    with torch.random.fork_rng(devices=[source.device] if source.is_cuda else []):
        torch.manual_seed(0)
        state = rollout(table, network, source, len(table.steps) - 1)
        return predict(table, table.steps[-1], network, state, source, draw_style(network, source))


class _Main(nn.Module):
    """A network of which only the first channels count."""

    style_size = 0

    def __init__(self, network: nn.Module, bands: int):
        super().__init__()
        self.network, self.sizes = network, network.sizes.model_copy(update={"bands_out": bands})

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        return self.network(image, time, style)[:, : self.sizes.bands_out]


def colour_distance(made: Tensor, target: Tensor) -> float:
    """Sliced Wasserstein distance of the colours of two sets of windows, in the network's range.

    On means over 4 x 4 pixels, so that a target less sharp than the source is no further for it.
    """
    coarse = (F.avg_pool2d(images, _COARSE_PX).transpose(0, 1).flatten(1) for images in (made, target))
    return sliced_wasserstein(*(values.double().cpu().numpy() for values in coarse))


def save_preview(path: Path, source: Tensor, made: Tensor, target: Tensor, rows: int = 4) -> np.ndarray:
    """Writes one PNG with a row of source, translation and target for each window, and returns it (3,h,w).

    The source is stretched by its own percentiles, the other two by the target's; small windows are enlarged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [_rgb(images[:rows], like[:rows]) for images, like in (
        (source, source), (made, target), (target, target))]
    picture = torch.cat(columns, 2)[:, :-_LINE_PX, :-_LINE_PX].cpu().numpy()
    write_png(path, picture)
    return picture


def _rgb(images: Tensor, like: Tensor) -> Tensor:
    """(N,C,h,w) -> (3, rows, columns) uint8, below each other between white lines; the first three bands, or the first
    one as grey."""
    shown, like = (each[:, :3] if each.shape[1] >= 3 else each[:, :1].expand(-1, 3, -1, -1) for each in (images, like))
    values = like.float().transpose(0, 1).flatten(1)
    low, high = (torch.quantile(values[:, :: max(1, values.shape[1] >> 20)], q, 1)[:, None, None]
                 for q in (_LOW, 1 - _LOW))
    scaled = (shown.float() - low) / (high - low).clamp(min=1e-6)
    times = max(1, _LEAST_PX // images.shape[-1])
    large = F.interpolate((scaled * 255).round().clamp(0, 255), scale_factor=times)
    return F.pad(large, (0, _LINE_PX, 0, _LINE_PX), value=255.0).transpose(0, 1).flatten(1, 2).to(torch.uint8)
