"""Augmentation: what is drawn anew for each window of a step, so that few rasters go a longer way.

The chain is geometry (of all windows), then what changes with the sensor and the day (of source windows alone): blur,
gain and offset, noise. Everything is drawn from torch's generator, which the loop seeds for each step, and a link that
is off draws nothing. Values are never clipped.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .recipe import Augment, Recipe

Batch = dict[str, Tensor]
Link = Callable[[Batch], Batch]
_SOURCES = "source", "source2"
_LEAST_BLUR_PX = 1e-3
"""Which changes nothing; kornia's kernel divides by it."""


def augmentation(recipe: Recipe, paired: bool) -> Link:
    """What `data.flip_rows`, `data.flip_cols` and `data.augment` ask for, one after the other.

    Args:
        paired: whether all windows of a batch show the same area; they are flipped and turned alike then.

    Returns:
        A function of a batch, windows (N,C,side,side) by name in the network's range, that gives another of the same
        names and shapes.
    """
    links = [*_flips(recipe, paired), *_turns(recipe.data.augment, paired), *_radiometry(recipe.data.augment)]

    def augment(batch: Batch) -> Batch:
        for link in links:
            batch = link(batch)
        return batch

    return augment


def _flips(recipe: Recipe, paired: bool) -> list[Link]:
    from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomVerticalFlip

    kinds = [kind(p=0.5) for kind, wanted in ((RandomVerticalFlip, recipe.data.flip_rows),
                                              (RandomHorizontalFlip, recipe.data.flip_cols)) if wanted]
    if not kinds:
        return []
    flip = AugmentationSequential(*kinds, data_keys=["input"])

    def link(batch: Batch) -> Batch:
        first, *others = batch
        flipped = {first: flip(batch[first])}
        drawn = flip._params
        return flipped | {name: flip(batch[name], params=drawn) if paired else flip(batch[name]) for name in others}

    return [link]


def _turns(augment: Augment, paired: bool) -> list[Link]:
    """Quarter turns of each window; kornia's resample, and here every pixel keeps its value."""
    def link(batch: Batch) -> Batch:
        turned, quarters = {}, None
        for name, windows in batch.items():
            if quarters is None or not paired:
                quarters = torch.randint(4, (len(windows),)).tolist()
            turned[name] = torch.stack([torch.rot90(w, k, (1, 2)) for w, k in zip(windows, quarters)])
        return turned

    return [link] if augment.turns else []


def _radiometry(augment: Augment) -> list[Link]:
    from kornia.augmentation import RandomGaussianBlur, RandomGaussianNoise

    changes: list[Callable[[Tensor], Tensor]] = []
    if augment.blur:
        side = 2 * augment.reach_px + 1
        changes.append(RandomGaussianBlur((side, side), (min(_LEAST_BLUR_PX, augment.blur), augment.blur), p=1.0))
    if augment.gain or augment.offset:
        changes.append(lambda windows: _jittered(windows, augment))
    if augment.noise:
        changes.append(RandomGaussianNoise(0.0, augment.noise, p=1.0))

    def of_sources(change: Callable[[Tensor], Tensor]) -> Link:
        return lambda batch: batch | {name: change(batch[name]) for name in _SOURCES if name in batch}

    return [of_sources(change) for change in changes]


def _jittered(windows: Tensor, augment: Augment) -> Tensor:
    gain, offset = 2 * torch.rand(2, *windows.shape[:2], 1, 1) - 1
    return windows * (1 + augment.gain * gain) + augment.offset * offset
