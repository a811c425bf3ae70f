"""A random normal field that is a function of position, so that neighbouring windows see the same noise.

Each sample is a hash of (seed, sample, step, channel, row, column), turned into a normal number by table
look-up. Only integer arithmetic, one addition and two look-ups are involved: the field is the same bit
for bit on every device, in every window and in any order.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the increment of splitmix64 (Steele et al. 2014)
_MIX = (-4658895280553007687, -7723592293110705685)  # its two multipliers, as signed 64-bit integers


def field(key: tuple[int, ...], channels: int, row: int, col: int, height: int, width: int,
          device: torch.device | str = "cpu") -> Tensor:
    """Unit normal field (channels, height, width) float32 for raster rows row.. and columns col..

    `key` holds the seed, the sample and the step; the channel is added here.
    """
    rows = torch.arange(row, row + height, dtype=torch.int64, device=device)
    cols = torch.arange(col, col + width, dtype=torch.int64, device=device) * _GOLDEN
    out = torch.empty(channels, height, width, device=device)
    for channel in range(channels):
        stream = _hash(rows * _GOLDEN + _seed((*key, channel)))
        for first in range(0, height, 256):  # keeps the 64-bit temporaries small
            part = slice(first, first + 256)
            bits = _hash(stream[part, None] + cols)
            out[channel, part] = _normal(bits)
    return out


def vector(key: tuple[int, ...], size: int, device: torch.device | str = "cpu") -> Tensor:
    """A unit normal vector (size,), one for the whole raster."""
    return field(key, 1, 0, 0, 1, size, device)[0, 0]


def _normal(bits: Tensor) -> Tensor:
    """Two 16-bit look-ups make one normal number with 2**32 levels."""
    table = _quantiles(str(bits.device))
    return (table[bits & 0xFFFF] + table[(bits >> 16) & 0xFFFF]) * math.sqrt(0.5)


def _hash(x: Tensor) -> Tensor:
    """The finaliser of splitmix64; shifts are made logical by masking the sign that comes in."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX[0]
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX[1]
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _seed(key: tuple[int, ...]) -> int:
    state = torch.zeros(1, dtype=torch.int64)
    for part in key:
        state = _hash(state + _GOLDEN + int(np.int64(np.uint64(part % 2**64))))
    return int(state)


@lru_cache(maxsize=8)
def _quantiles(device: str) -> Tensor:
    """The 65,536 mid-quantiles of the normal distribution, scaled to unit variance."""
    levels = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    table = torch.special.ndtri(levels)
    return (table / table.square().mean().sqrt()).float().to(device)
