"""Preview pictures of a training run: source, translation and target windows side by side."""

from pathlib import Path

import torch
from torch import Tensor

from ..core.sampler import predict
from ..core.sink import write_png
from .bridge import draw_style, rollout


def save_preview(path: Path, run, batch: dict[str, Tensor], rows: int = 4) -> None:
    """Writes one PNG with a row per window; the range [-1, 1] is shown from black to white."""
    table, network = run.method.steps(), run.ema
    source = batch["source"][:rows]
    with torch.no_grad():
        state = rollout(table, network, source, len(table.steps) - 1)
        made = predict(table, table.steps[-1], network, state, source, draw_style(network, source))
    columns = [_rgb(images) for images in (source, made, batch["target"][:rows])]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, torch.cat(columns, 2).cpu().numpy())


def _rgb(images: Tensor) -> Tensor:
    """(N,C,h,w) in [-1,1] -> (3, N*h, w) uint8; the first three bands, or the first one as grey."""
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    stacked = shown.transpose(0, 1).flatten(1, 2)
    return ((stacked + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
