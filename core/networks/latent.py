"""The networks of latent diffusion, built by diffusers from a few sizes: a U-Net over latents, and their autoencoder.

Those sizes are in `latent_sizes`; a file of weights can be held against them before it is read.
"""

import math
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .latent_sizes import SEEN_BANDS, AutoencoderSizes, AutoencoderSpec, LatentUNetSizes

_LEAST_VARIANCE, _MOST_VARIANCE = 1e-6, 10.0
_START = math.log(math.expm1(1 - _LEAST_VARIANCE))
"""What softplus turns into a variance of one, but for the least."""
_NO_BOUND_PX = 1 << 16


class LatentUNet(nn.Module):
    """`forward(latents (N,2C,h,w), time (N,), None) -> (N,C+A,h,w)`: the state's latents first, then the source's.

    Inside, the source's stand first, as in the released code of C-DiffSET. Its text embedding is always the
    same: `prompt` (1,words,context).
    """

    sizes_type = LatentUNetSizes
    attends = True
    radius_px = _NO_BOUND_PX
    style_size = 0

    def __init__(self, sizes: LatentUNetSizes):
        super().__init__()
        self.sizes = sizes
        self.unet = _diffusers("UNet2DConditionModel")(**unet_arguments(sizes))
        self.register_buffer("prompt", torch.zeros(1, sizes.words, sizes.context))

    @property
    def stride(self) -> int:
        return 2**self.sizes.levels

    @property
    def smallest_px(self) -> int:
        return 2 * self.stride

    @property
    def channels(self) -> int:
        return 2 * self.sizes.width

    def forward(self, latents: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        dtype = self.unet.conv_in.weight.dtype
        state, source = latents.to(dtype).chunk(2, 1)
        words = self.prompt.to(dtype).expand(len(latents), -1, -1)
        return self.unet(torch.cat([source, state], 1), time, words, return_dict=False)[0].to(latents.dtype)


class Autoencoder(nn.Module):
    """An autoencoder whose latents are the means of its posterior, scaled; it never draws."""

    def __init__(self, spec: AutoencoderSpec):
        super().__init__()
        self.spec = spec
        self.autoencoder = _diffusers("AutoencoderKL")(**autoencoder_arguments(spec.sizes))

    def mixed(self, source: Tensor) -> Tensor:
        """The bands (N,3,h,w) that are encoded, of those of the source (N,C,h,w) in [-1,1]; beyond is cut off."""
        mix = torch.tensor(self.spec.mix, dtype=source.dtype, device=source.device)
        return torch.einsum("kc,nchw->nkhw", mix, source.clamp(-1, 1))

    def encode(self, image: Tensor) -> Tensor:
        """(N,3,h,w) in [-1,1] -> latents (N,L,h/f,w/f)."""
        return (self.autoencoder.encode(image).latent_dist.mean - self.spec.shift) * self.spec.scaling

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N,L,h,w) -> (N,3,hf,wf)."""
        return self.autoencoder.decode(latents / self.spec.scaling + self.spec.shift, return_dict=False)[0]


def autoencoder_on_meta(spec: AutoencoderSpec) -> Autoencoder:
    """The autoencoder without memory for its weights."""
    with torch.device("meta"):
        return Autoencoder(spec)


def variance(raw: Tensor) -> Tensor:
    """C-DiffSET's predicted variance of a channel that begins at zero: one, then anything from 1e-6 to 10."""
    return (F.softplus(raw + _START) + _LEAST_VARIANCE).clamp(_LEAST_VARIANCE, _MOST_VARIANCE)


def confidence(raw: Tensor, times: int | Fraction) -> Tensor:
    """1 / variance of a raw channel (N,1,h,w), on `times` as many pixels along an axis (bicubic)."""
    sure = 1 / variance(raw)
    finer = F.interpolate(sure, scale_factor=float(times), mode="bicubic", align_corners=False)
    return finer.clamp(1 / _MOST_VARIANCE, float(sure.amax()))  # the kernel overshoots


def unet_arguments(sizes: LatentUNetSizes) -> dict[str, Any]:
    """The arguments with which diffusers builds the U-Net."""
    widths = _widths(sizes)
    heads = sizes.heads or [width // (sizes.head_px or width) for width in widths]
    levels = sizes.levels
    return {"in_channels": sizes.bands_in, "out_channels": sizes.bands_out, "block_out_channels": widths,
            "down_block_types": ("CrossAttnDownBlock2D",) * levels + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * levels, "layers_per_block": sizes.layers,
            "norm_num_groups": sizes.groups, "cross_attention_dim": sizes.context, "attention_head_dim": heads,
            "use_linear_projection": bool(sizes.linear)}


def autoencoder_arguments(sizes: AutoencoderSizes) -> dict[str, Any]:
    """The arguments with which diffusers builds the autoencoder."""
    count, quantised = sizes.levels + 1, bool(sizes.quantised)
    return {"in_channels": SEEN_BANDS, "out_channels": SEEN_BANDS, "block_out_channels": _widths(sizes),
            "down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count,
            "layers_per_block": sizes.layers, "latent_channels": sizes.latents, "norm_num_groups": sizes.groups,
            "use_quant_conv": quantised, "use_post_quant_conv": quantised}


def _widths(sizes: LatentUNetSizes | AutoencoderSizes) -> tuple[int, ...]:
    return tuple(sizes.width * min(2**k, sizes.widest) for k in range(sizes.levels + 1))


def _diffusers(name: str):
    try:
        import diffusers
    except ImportError as error:
        raise ModelError("Models that work on latents need further packages (diffusers is missing): pip install "
                         "'geoi2i[diffusion]'.") from error
    return getattr(diffusers, name)
