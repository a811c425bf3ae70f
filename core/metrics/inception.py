"""The Inception network of FID: TensorFlow's of 2015-12-05, as pytorch-fid and torch-fidelity carry it."""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InceptionFid(nn.Module):
    """`forward(images (N,3,h,w) in 0..255)` gives their pooled features (N,2048).

    Inception v3 (Szegedy et al. 2016) with torchvision's names of weights and pytorch-fid's preparation: a bilinear
    resize to 299 pixels that does not smooth, then [-1, 1]. It differs from torchvision's network in its pooling:
    means leave out the padding, and the last block takes a maximum.
    """

    def __init__(self):
        super().__init__()
        self.add_module("Conv2d_1a_3x3", _convolution(3, 32, 3, 2))
        self.add_module("Conv2d_2a_3x3", _convolution(32, 32, 3, padding=0))
        self.add_module("Conv2d_2b_3x3", _convolution(32, 64, 3))
        self.add_module("maxpool1", nn.MaxPool2d(3, 2))
        self.add_module("Conv2d_3b_1x1", _convolution(64, 80, 1))
        self.add_module("Conv2d_4a_3x3", _convolution(80, 192, 3, padding=0))
        self.add_module("maxpool2", nn.MaxPool2d(3, 2))
        channels = 192
        for name, branches, pool in _BLOCKS:
            block = Mixed(channels, branches, pool)
            self.add_module(name, block)
            channels = block.channels

    def forward(self, images: Tensor) -> Tensor:
        x = 2 * F.interpolate(images / 255, (299, 299), mode="bilinear", align_corners=False) - 1
        for layer in self.children():
            x = layer(x)
        return x.mean((2, 3))


class Mixed(nn.Module):
    """Branches of convolutions side by side, their maps stacked.

    Args:
        branches: the steps of each branch; a step is (channels, kernel) or (channels, kernel, stride), or a list of
            such, whose maps are stacked.
        pool: what the branch "branch_pool" begins with.
    """

    def __init__(self, channels: int, branches: dict[str, list], pool: Callable[[Tensor], Tensor]):
        super().__init__()
        self.pool, self.routes, self.channels = pool, {}, 0
        for branch, steps in branches.items():
            route, width = [], channels
            for number, step in enumerate(steps, 1):
                name = branch if len(steps) == 1 else f"{branch}_{number}"
                forks = step if isinstance(step, list) else [step]
                names = [name + letter for letter in "ab"] if len(forks) == 2 else [name]
                for part, sizes in zip(names, forks):
                    self.add_module(part, _convolution(width, *sizes))
                route.append(names)
                width = sum(sizes[0] for sizes in forks)
            self.routes[branch] = route
            self.channels += width

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for branch, route in self.routes.items():
            y = self.pool(x) if branch == "branch_pool" else x
            for names in route:
                y = torch.cat([getattr(self, name)(y) for name in names], 1)
            maps.append(y)
        return torch.cat(maps, 1)


def _convolution(before: int, after: int, kernel: int | tuple[int, int], stride: int = 1,
                 padding: int | tuple[int, ...] | None = None) -> nn.Sequential:
    """Convolution, norm, ReLU; keeps the size unless it strides or `padding` says otherwise."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = 0 if stride > 1 else tuple(side // 2 for side in sides)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(before, after, sides, stride, padding, bias=False),
                                     bn=nn.BatchNorm2d(after, eps=0.001), relu=nn.ReLU(inplace=True)))


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def _halving(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


_ACROSS, _DOWN = (1, 7), (7, 1)


def _block5(pooled: int) -> dict[str, list]:
    return {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
            "branch_pool": [(pooled, 1)]}


def _block6(n: int) -> dict[str, list]:
    return {"branch1x1": [(192, 1)], "branch7x7": [(n, 1), (n, _ACROSS), (192, _DOWN)],
            "branch7x7dbl": [(n, 1), (n, _DOWN), (n, _ACROSS), (n, _DOWN), (192, _ACROSS)], "branch_pool": [(192, 1)]}


_FORK = [(384, (1, 3)), (384, (3, 1))]
_BLOCK7: dict[str, list] = {"branch1x1": [(320, 1)], "branch3x3": [(384, 1), _FORK],
                            "branch3x3dbl": [(448, 1), (384, 3), _FORK], "branch_pool": [(192, 1)]}
_BLOCKS: tuple[tuple[str, dict[str, list], Callable[[Tensor], Tensor]], ...] = (
    ("Mixed_5b", _block5(32), _mean), ("Mixed_5c", _block5(64), _mean), ("Mixed_5d", _block5(64), _mean),
    ("Mixed_6a", {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)], "branch_pool": []},
     _halving),
    ("Mixed_6b", _block6(128), _mean), ("Mixed_6c", _block6(160), _mean), ("Mixed_6d", _block6(160), _mean),
    ("Mixed_6e", _block6(192), _mean),
    ("Mixed_7a", {"branch3x3": [(192, 1), (320, 3, 2)],
                  "branch7x7x3": [(192, 1), (192, _ACROSS), (192, _DOWN), (192, 3, 2)], "branch_pool": []}, _halving),
    ("Mixed_7b", _BLOCK7, _mean), ("Mixed_7c", _BLOCK7, _maximum),
)
