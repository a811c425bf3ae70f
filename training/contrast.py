"""Patchwise contrast (PatchNCE): a place of the output must resemble that place of the input more than any other.

Source: Park et al. 2020, arXiv:2007.15651, equation 3. With unit vectors v of the output and v+, v-_k of the input,
at P places of one image:

    l = -log( exp(v.v+ / t) / (exp(v.v+ / t) + sum_k exp(v.v-_k / t)) ),    mean over places, then over maps
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .critics import single


class Projector(nn.Module):
    """`forward(maps, places) -> unit vectors (N,P,D)` for each map (N,C,h,w) at its places (P,)."""

    def __init__(self, channels: tuple[int, ...], width: int = 256):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(c, width), nn.ReLU(), nn.Linear(width, width)) for c in channels)

    def forward(self, maps: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        return [F.normalize(single(layer(each.flatten(2)[:, :, place].mT)), dim=2)
                for layer, each, place in zip(self.layers, maps, places)]


def contrast(generator: nn.Module, projector: Projector, made: Tensor, source: Tensor, style: Tensor | None,
             places: int, temperature: float, mirrored: bool = False) -> Tensor:
    """PatchNCE between what was made (N,C,H,W) and its source, on the generator's own maps of both at time 0.

    Gradients reach the generator through `made` and through the maps of it, and the projector; not through the
    source, which only says how things are.

    Args:
        places: how many of each map are compared.
        mirrored: whether `made` shows the source's mirror image, left for right.
    """
    time = torch.zeros(len(source), device=source.device)
    with torch.no_grad():
        maps = generator.feature_maps(source, time, style)
        drawn = [torch.randperm(each[0, 0].numel(), device=source.device)[:places] for each in maps]
        keys = projector(maps, drawn)
    maps = generator.feature_maps(made, time, style)
    queries = projector([each.flip(3) for each in maps] if mirrored else maps, drawn)
    return torch.stack([patch_nce(q, k, temperature) for q, k in zip(queries, keys)]).mean()


def patch_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """The loss of unit vectors (N,P,D): the P keys of a query's own image are its classes, and its place the right
    one."""
    alike = queries @ keys.mT / temperature
    own = torch.arange(alike.shape[1], device=alike.device).expand(alike.shape[:2])
    return F.cross_entropy(alike.flatten(0, 1), own.flatten())
