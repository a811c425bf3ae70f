"""Measures that compare what networks see in tiles of both images.

They run in float32 on the CPU, without gradients. Their values belong to the weights, the tile's side and the range
that `settings` name, and to nothing else. Tiles are run one by one, as many at once are slower there.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .backbones import AlexNet, ResNet50, Vgg16
from .features import frechet_distance
from .inception import InceptionFid
from .measure import Measure, Undefined
from .tile import tile_mean, tiles
from .weights import Backbone, shipped

_IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
"""Mean and standard deviation of red, green and blue in [0, 1]."""
_LPIPS_LAYER = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])[..., None, None]
"""The same in [-1, 1], as rounded in LPIPS."""


def lpips(backbone: Backbone, low: float, high: float, tile: int = 256) -> Measure:
    """Learned perceptual distance (Zhang et al. 2018), version 0.1: the mean over tiles, by their pixels.

    Args:
        backbone: "alexnet" or "vgg16"; their values cannot be compared.
        low, high: values that are shown as black and as full; they become -1 and 1, and nothing is clipped.
        tile: pixels of a tile's side; smaller tiles at the last rows and columns count from 32 pixels on.

    Raises:
        ModelError: for another backbone.
    """
    network = _network("LPIPS", backbone, AlexNet, Vgg16)
    heads = shipped(f"functional/image/lpips_models/{'alex' if isinstance(network, AlexNet) else 'vgg'}.pth")
    weights = [heads[f"lin{layer}.model.1.weight"] for layer in range(5)]
    mean, deviation = _LPIPS_LAYER

    def distance(images):
        maps = network((2 * images - 1 - mean) / deviation)
        return sum(_chord(m, weight) for m, weight in zip(maps, weights))

    return _tile_mean(f"LPIPS ({backbone.name})", backbone, 3, distance, low, high, tile,
                      {"heads": "v0.1", "range": "[-1, 1]"})


def lpips_sat(backbone: Backbone, low: float, high: float, tile: int = 256) -> Measure:
    """LPIPS with features of a network that learnt from satellite images: the mean over tiles, by their pixels.

    "Mind the Gap" (arXiv 2606.28039) says only that its LPIPS-Sat compares self-supervised features of Sentinel-2,
    so its values cannot be reproduced. Here they are the maps after layer1 to layer4 of ResNet-50, of unit length at
    each place, their squared differences summed over channels and layers with equal weights: LPIPS without heads.

    Args:
        backbone: "sentinel2", "sentinel2-dino" or "sentinel2-rgb"; the images have as many bands as it takes, in
            its order.
        low, high: values that become 0 and 1, nothing clipped; the SSL4EO-S12 networks learnt from reflectance
            of 0..10000.
        tile: pixels of a tile's side; smaller tiles at the last rows and columns count from 32 pixels on.

    Raises:
        ModelError: for another backbone.
    """
    network = _network("LPIPS-Sat", backbone, ResNet50)

    def distance(images):
        return sum(_chord(m) for m in network(images))

    return _tile_mean(f"LPIPS-Sat ({backbone.name})", backbone, network.conv1.in_channels, distance, low, high, tile,
                      {"layers": "layer1 to layer4", "heads": "none, equal weights", "range": "[0, 1]"})


def dists(backbone: Backbone, low: float, high: float, tile: int = 256) -> Measure:
    """Deep image structure and texture similarity (Ding et al. 2020): the mean over tiles, by their pixels.

    1 minus a weighted mean, over channels of the image and of five layers of VGG16, of the likeness of their means
    (texture) and of their correlation (structure). The authors' program first brings the shorter side to 256 pixels;
    here tiles are taken as they are.

    Args:
        backbone: "vgg16".
        low, high: values that are shown as black and as full; they become 0 and 1, and nothing is clipped.
        tile: pixels of a tile's side; smaller tiles at the last rows and columns count from 32 pixels on.

    Raises:
        ModelError: for another backbone.
    """
    network = _network("DISTS", backbone, Vgg16)
    learned = shipped("functional/image/dists_models/weights.pt")
    alpha, beta = (learned[name].flatten() for name in ("alpha", "beta"))
    total = alpha.sum() + beta.sum()
    mean, deviation = _IMAGENET

    def distance(images):
        maps = [images, *network((images - mean) / deviation, _hanning_pool)]
        texture, structure = (torch.cat(found) for found in zip(*map(_unlikeness, maps)))
        return (texture @ alpha + structure @ beta) / total

    return _tile_mean("DISTS", backbone, 3, distance, low, high, tile, {"range": "[0, 1]"})


def fid(backbone: Backbone, low: float, high: float, tile: int = 256) -> Measure:
    """Frechet inception distance (Heusel et al. 2017) between the tiles of both images, as pytorch-fid counts it.

    The images need not show the same place. `n_valid` is the number of tiles. Below 2049 the covariances have not
    their full rank: a value is computed, but it depends on that number, and values of unlike numbers cannot be
    compared.

    Args:
        backbone: "inception".
        low, high: values that become 0 and 255; what lies between is rounded and what lies beyond clipped, as in
            pictures of 8 bits.
        tile: pixels of a tile's side; tiles of another than 299 are resized to it. Only whole tiles count.

    Raises:
        ModelError: for another backbone.
    """
    network = _network("FID", backbone, InceptionFid)

    def moments(images):
        features = []
        for image in images:
            shown = torch.from_numpy(np.rint((image - low) / (high - low) * 255).clip(0, 255)).float().contiguous()
            with torch.inference_mode():
                features.append(np.append(1.0, network(shown[None])[0].double().numpy()))
        return np.transpose(features) @ features  # the ones bring the count and the sums along

    def sums(patch):
        pairs = list(tiles(patch, tile, tile))
        if not pairs:
            return {"count": 0, "reference": 0.0, "prediction": 0.0}
        references, predictions = zip(*pairs)
        found = moments(predictions)
        return {"count": len(pairs), "prediction": found,
                "reference": found if patch.alone else moments(references)}

    def score(total):
        found = []
        for products in (total["reference"], total["prediction"]):
            n = np.ravel(products)[0]
            if n < 2:
                raise Undefined(f"an image has fewer than two tiles of {tile} pixels without a hole: choose smaller "
                                "tiles or a larger raster")
            mean = products[0, 1:] / n
            found += [mean, (products[1:, 1:] - n * np.outer(mean, mean)) / (n - 1)]
        return frechet_distance(*found)

    return _only(3, Measure("FID", "", 0.0, sums, score, block_px=tile,
                            settings={**backbone.settings, "tile": tile, "low": low, "high": high,
                                      "values": "rounded to 0..255", "full rank from": "2049 tiles"}))


def _network(measure: str, backbone: Backbone, *kinds: type[nn.Module]) -> nn.Module:
    """The backbone's network, if its weights are known and it is of the right kind."""
    if not isinstance(backbone, Backbone) or not isinstance(backbone.module, kinds):
        given = backbone.name if isinstance(backbone, Backbone) else type(backbone).__name__
        raise ModelError(f"{measure} cannot use {given}: give it a {' or '.join(kind.__name__ for kind in kinds)} that "
                         "load_backbone has read.")
    return backbone.module


def _tile_mean(name: str, backbone: Backbone, bands: int, distance: Callable[[Tensor], Tensor], low: float,
               high: float, tile: int, settings: dict) -> Measure:
    """Mean over tiles of a function of both images, (2,C,h,w) in [0, 1]."""
    def value(one, other):
        # Libraries sum in another order where bands lie together in memory: 2e-5 of DISTS.
        images = torch.from_numpy((np.stack([one, other]) - low) / (high - low)).float().contiguous()
        with torch.inference_mode():
            return distance(images).item()

    return _only(bands, tile_mean(name, "", 0.0, value, tile,
                                  settings={**backbone.settings, "low": low, "high": high, **settings}))


def _only(bands: int, measure: Measure) -> Measure:
    """The measure, without a value for images of another number of bands than its network takes."""
    def sums(patch):
        if len(patch.reference) != bands:
            return {"count": np.count_nonzero(patch.valid[patch.owned]), "foreign": 1}
        return measure.sums(patch)

    def score(total):
        if "foreign" in total:
            raise Undefined(f"its network takes {bands} bands and the images have another number: choose {bands} bands")
        return measure.score(total)

    return replace(measure, sums=sums, score=score)


def _chord(maps: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Squared distance of maps (2,C,h,w) of unit length over channels, the mean over places.

    Args:
        weight: of the channels, (1,C,1,1).
    """
    one, other = (maps / (maps.norm(dim=1, keepdim=True) + 1e-10)).split(1)
    return (weight * (one - other) ** 2).sum(1).mean()


def _unlikeness(maps: Tensor) -> tuple[Tensor, Tensor]:
    """1 minus the likeness in texture and in structure (C,) of maps (2,C,h,w), without losing its digits."""
    means = maps.mean((2, 3), keepdim=True)
    one, other = maps - means
    mean1, mean2 = means[..., 0, 0]
    variances = (one**2 + other**2).mean((1, 2))
    return ((mean1 - mean2) ** 2 / (mean1**2 + mean2**2 + 1e-6), ((one - other) ** 2).mean((1, 2)) / (variances + 1e-6))


def _hanning_pool(x: Tensor) -> Tensor:
    """Halves maps (N,C,h,w) by the root of the weighted mean square, as in DISTS."""
    window = torch.hann_window(5, periodic=False)[1:-1]
    window = torch.outer(window, window)
    kernel = (window / window.sum()).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
