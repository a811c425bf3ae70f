"""The way from stored numbers to the network's range, and back; the same for training and for translation."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..models.manifest import Manifest
from ..models.normalisers import BandAffine, BandMix, Normaliser
from ..raster.bands import Band, Statistics
from ..raster.rows import Raster
from ..staging import upload
from .segments import Moments


@dataclass(frozen=True)
class Radiometry:
    """Stored numbers <-> the network's range."""

    inward: BandAffine | BandMix | None
    outward: BandAffine | None
    """None: stored numbers are the network's numbers."""
    fill: Tensor
    """(C,) what a pixel without data near valid ones becomes, in the network's range."""

    def from_stored(self, pixels: Tensor) -> Tensor:
        """Stored (C,h,w) -> the network's range, float32."""
        pixels = pixels.float()
        return pixels if self.inward is None else forward(self.inward, pixels)

    def to_stored(self, moments: Moments) -> tuple[Tensor, Tensor | None]:
        """Mean and, where it is wanted, standard deviation (ddof 1) in stored numbers."""
        mean, std = moments.mean, None
        if moments.squares is not None:
            std = (moments.squares / (moments.count - 1)).sqrt()
        if self.outward is None:
            return mean, std
        gain = _terms(self.outward, mean.dtype, mean.device)[0].abs()
        return inverse(self.outward, mean), None if std is None else std / gain


def forward(affine: BandAffine | BandMix, x: Tensor) -> Tensor:
    """Physical (C,h,w) -> normalised, with gain and bias rounded to the dtype of the pixels."""
    if isinstance(affine, BandMix):
        return _mixed(affine, x)
    gain, bias, *_ = _terms(affine, x.dtype, x.device)
    return torch.addcmul(bias, x, gain)


def _mixed(mix: BandMix, x: Tensor) -> Tensor:
    """Band by band, so that a pixel's bits do not depend on how many others there are."""
    made = []
    for gains, bias in zip(mix.gain, mix.bias):
        total = torch.full_like(x[0], bias)
        for band, gain in zip(x, gains):
            total = torch.add(total, band, alpha=gain)
        made.append(total)
    return torch.stack(made)


def inverse(affine: BandAffine, y: Tensor) -> Tensor:
    """Normalised (C,h,w) -> physical; undoes `forward` up to rounding."""
    *_, gain, bias = _terms(affine, y.dtype, y.device)
    return torch.addcmul(bias, y, gain)


@lru_cache(maxsize=64)
def _terms(affine: BandAffine, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Gain and bias of a map and of its inverse, each (C,1,1); kept, for a copy to a GPU waits for what it computes."""
    with torch.inference_mode(False):
        gain, bias = (torch.tensor(values, dtype=torch.float64) for values in (affine.gain, affine.bias))
        return tuple(values.to(device, dtype)[:, None, None] for values in (gain, bias, 1 / gain, -bias / gain))


def to_range(bands: tuple[Band, ...], normaliser: Normaliser | None, statistics: Statistics | None
             ) -> tuple[BandAffine | BandMix | None, Tensor]:
    """How the stored numbers of a raster's bands become the network's.

    Args:
        normaliser: of the model or the recipe; None: numbers stay as they are stored.
        statistics: of the raster; without them nothing is ever filled.

    Returns:
        The map, and (C,) the mean in the network's range, with which pixels far from valid ones are filled.
    """
    affine = normaliser.resolve(statistics) if normaliser else None
    mean = np.asarray(statistics.mean if statistics else [0.0] * len(bands))
    if affine is None:
        stored = (mean - [b.offset for b in bands]) / [b.scale for b in bands]
        return None, torch.tensor(stored, dtype=torch.float32)
    if isinstance(affine, BandMix):
        return _mix_with_scale(affine, bands), torch.from_numpy(np.array(affine.gain) @ mean + affine.bias).float()
    fill = torch.from_numpy(mean * affine.gain + affine.bias).float()
    return _with_scale(affine, bands), fill


def radiometry(raster: Raster, manifest: Manifest, statistics: Statistics | None) -> Radiometry:
    """How this raster's stored numbers meet this model; without statistics nothing is ever filled."""
    inward, fill = to_range(raster.bands, manifest.normalise_in, statistics)
    outward = manifest.normalise_out.resolve(statistics)
    if inward is not None and outward:
        outward = _with_scale(outward, output_bands(raster, manifest))
    return Radiometry(inward, outward, fill)


def _with_scale(affine: BandAffine, bands: tuple[Band, ...]) -> BandAffine:
    """The map from stored numbers, for bands with a scale and an offset: one multiply-add in all."""
    gain, bias = np.array(affine.gain), np.array(affine.bias)
    scale, offset = (np.array(v, float) for v in zip(*((b.scale, b.offset) for b in bands)))
    return BandAffine(tuple((gain * scale).tolist()), tuple((gain * offset + bias).tolist()))


def _mix_with_scale(mix: BandMix, bands: tuple[Band, ...]) -> BandMix:
    """The same for a map across bands."""
    gain = np.array(mix.gain)
    scale, offset = (np.array(v, float) for v in zip(*((b.scale, b.offset) for b in bands)))
    return BandMix(tuple(map(tuple, (gain * scale).tolist())), tuple((gain @ offset + mix.bias).tolist()))


def output_bands(raster: Raster, manifest: Manifest) -> tuple[Band, ...]:
    """The output's bands: the source's own where the model only changes values, else the model's."""
    if manifest.network is None:
        return raster.bands
    same = len(manifest.bands_out) == len(raster.bands)
    keeps = same and manifest.dtype == "same"
    # A band that is called otherwise before and after is another sensor's.
    sources = [replace(band, name=band.name if before.name == after.name else None) for band, before, after in
               zip(raster.bands, manifest.bands_in, manifest.bands_out)] if same else [Band(None)] * 1024
    return tuple(
        Band(source.name or spec.name, spec.unit or None,
             source.scale if keeps else 1.0, source.offset if keeps else 0.0, None, spec.colour)
        for spec, source in zip(manifest.bands_out, sources))


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Pixels as a tensor on a device, of a type that torch computes with."""
    if array.dtype.kind in "iu" and array.itemsize > 2:
        array = array.astype("float32")
    elif array.dtype == "uint16":  # few torch operations know it: half the bytes to a GPU, floats on a CPU
        if device.type == "cpu":
            return torch.from_numpy(array.astype("float32"))
        return upload(array, device).to(torch.int32)
    return upload(array, device)
