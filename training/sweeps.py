"""One pass over rasters of any size, in sums that do not depend on how it is cut: what closed forms are solved from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import RecipeError
from ..core.grid import Window
from ..core.networks.closed_form import LinearSizes, at_centres, values
from ..core.raster.rows import Rows, SeekableRaster
from .pairs import shift

_BLOCK_PX, _STRIP_VALUES = 512, 8 << 20


def physical(rows: Rows, raster: SeekableRaster) -> tuple[np.ndarray, np.ndarray]:
    """Physical values (C,h,w) as float64, and which pixels (h,w) are valid in all bands."""
    scale, offset = (np.array(v, float)[:, None, None] for v in zip(*((b.scale, b.offset) for b in raster.bands)))
    plain = (scale == 1).all() and (offset == 0).all()
    pixels = rows.pixels.astype(np.float64) if plain else rows.pixels * scale + offset
    valid = np.isfinite(pixels).all(0)
    if rows.mask is not None:
        valid &= (rows.mask != 0).all(0)
    return pixels, valid


def valid_pixels(raster: SeekableRaster) -> Iterator[np.ndarray]:
    """Physical values (C,n) of the valid pixels, some rows at a time."""
    for rows in raster.rows():
        pixels, valid = physical(rows, raster)
        pixels = pixels.reshape(len(pixels), -1)
        yield pixels if valid.all() else np.compress(valid.ravel(), pixels, axis=1)


@dataclass(frozen=True)
class MeanCovariance:
    """Number, mean (C,) and covariance (C,C) of pixels."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (C,) of each band."""
        return np.sqrt(np.diag(self.covariance))


def mean_covariance(rasters: Sequence[SeekableRaster], names: Sequence[str]) -> MeanCovariance:
    """Mean and covariance of all valid pixels of rasters.

    Args:
        names: of the bands, for messages.

    Raises:
        RecipeError: where there are fewer than two, or a band is constant.
    """
    around = np.zeros((len(names), 1))
    count, sums, squares = 0, np.zeros(len(names)), np.zeros((len(names),) * 2)
    for pixels in chain.from_iterable(map(valid_pixels, rasters)):
        if not count and pixels.size:  # sums around some pixel lose no digits to a large mean
            around = pixels[:, :1].copy()
        pixels = pixels - around
        if pixels.size:
            # From the first pixel to the last, for the same digits whatever the layout in memory.
            sums = sums + np.add.accumulate(pixels, 1)[:, -1]
        count, squares = count + pixels.shape[1], squares + pixels @ pixels.T
    if count < 2:
        raise RecipeError(f"{rasters[0].path} has {count} valid pixels, and at least 2 are needed: name other rasters.")
    mean = sums / count
    covariance = squares / count - np.outer(mean, mean)
    mean = mean + around[:, 0]
    for name, value, variance in zip(names, mean, np.diag(covariance)):
        if variance <= (1e-9 * max(1e-300, abs(value))) ** 2:
            raise RecipeError(f"Band {name} of {rasters[0].path} is constant ({value:.6g}): leave it out with "
                              "data.source.bands or data.target.bands.")
    return MeanCovariance(count, mean, covariance)


@dataclass
class Sums:
    """Sums over pixels of x x', x y' and y y', where x begins with a 1."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @property
    def count(self) -> int:
        return round(self.xx[0, 0])

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def part(self, columns: np.ndarray) -> "Sums":
        """Of some of the terms x."""
        return Sums(self.xx[np.ix_(columns, columns)], self.xy[columns], self.yy)

    def error(self, solution: np.ndarray) -> np.ndarray:
        """Mean squared error (outputs,) of y = x' solution on these pixels."""
        found = self.yy.diagonal() - 2 * (solution * self.xy).sum(0) + (solution * (self.xx @ solution)).sum(0)
        return np.maximum(found, 0) / max(self.count, 1)


def paired_sums(sources: Sequence[SeekableRaster], targets: Sequence[SeekableRaster], sizes: LinearSizes,
                source: MeanCovariance, target: MeanCovariance) -> Sums:
    """Sums over all pixels that are valid on both sides, with their neighbourhood: x is 1 and the terms of `sizes`, y
    the target's bands at each place in a source pixel; all standardised.

    Raises:
        RecipeError: for rasters that do not pair up or whose pixels do not align.
    """
    check_pairs(sources, targets)
    terms, outputs = 1 + len(sizes.terms), sizes.bands_out * sizes.scale**2
    sums = Sums(np.zeros((terms, terms)), np.zeros((terms, outputs)), np.zeros((outputs, outputs)))
    reach = sizes.scale * (max(sizes.neighbourhood, *sizes.means, 1) // 2)
    for raster, other in zip(sources, targets):
        for block in paired_blocks(raster, other, sizes.scale, reach):
            for x, y in _strips(block, sizes, source, target):
                sums.xx += x @ x.T
                sums.xy += x @ y.T
                sums.yy += y @ y.T
    return sums


def check_pairs(sources: Sequence[SeekableRaster], targets: Sequence[SeekableRaster]) -> None:
    """Raises RecipeError for sides of different numbers of rasters."""
    if len(sources) != len(targets):
        raise RecipeError(f"{len(sources)} source and {len(targets)} target rasters do not pair up: give as many of "
                          "each, in the same order.")


def overlap(raster: SeekableRaster, other: SeekableRaster, scale: int = 1) -> tuple[Window, int, int]:
    """The source's pixels that a pair shares, none or more, in whole ones of which each is cut into `scale`; and the
    row and the column of the target at the source's first.

    Raises:
        RecipeError: where their pixels do not align.
    """
    grid, there = raster.grid, other.grid
    down, right = shift(grid, there, (raster.path, other.path))
    top, left = (-(-max(0, -offset) // scale) * scale for offset in (down, right))
    bottom = min(grid.height, there.height - down) // scale * scale
    right_end = min(grid.width, there.width - right) // scale * scale
    return Window(top, left, max(0, bottom - top), max(0, right_end - left)), down, right


@dataclass(frozen=True)
class Block:
    """A part of a pair, in physical values."""

    place: Window
    """The target's pixels, counted as those of the source."""
    wanted: np.ndarray
    """The target (C',h,w)."""
    known: np.ndarray
    """Where (h,w) it is valid in all bands."""
    around: Window
    """The source's pixels: those of the target and a neighbourhood, as far as the raster goes."""
    pixels: np.ndarray
    """The source (C,H,W)."""
    valid: np.ndarray
    """Where (H,W) it is valid in all bands."""


def paired_blocks(raster: SeekableRaster, other: SeekableRaster, scale: int, reach: int) -> Iterator[Block]:
    """Blocks that cover what a pair shares.

    Args:
        scale: pixels that each of the source is cut into along an axis; blocks hold whole ones.
        reach: pixels of the source beyond a block's edges that it holds too.

    Raises:
        RecipeError: for rasters whose pixels do not align.
    """
    shared, down, right = overlap(raster, other, scale)
    grid, bottom, right_end = raster.grid, shared.row + shared.height, shared.col + shared.width
    side = max(scale, _BLOCK_PX // scale * scale)
    if not (shared.height and shared.width):
        return
    with raster.windows(side + 2 * reach) as ours, other.windows(side) as theirs:
        for row in range(shared.row, bottom, side):
            for col in range(shared.col, right_end, side):
                height, width = min(side, bottom - row), min(side, right_end - col)
                y0, x0 = max(0, row - reach), max(0, col - reach)
                y1, x1 = min(grid.height, row + height + reach), min(grid.width, col + width + reach)
                around = Window(y0, x0, y1 - y0, x1 - x0)
                pixels, valid = physical(ours.read(around), raster)
                wanted, known = physical(theirs.read(Window(row + down, col + right, height, width)), other)
                yield Block(Window(row, col, height, width), wanted, known, around, pixels, valid)


def _strips(block: Block, sizes: LinearSizes, source: MeanCovariance, target: MeanCovariance
            ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Terms (T,n) and targets (O,n) of the usable pixels of a block, few rows at a time."""
    pixels, valid, wanted, known = block.pixels, block.valid, block.wanted, block.known
    scale, reach = sizes.scale, max(sizes.neighbourhood, *sizes.means, 1) // 2
    x = standard(np.where(valid, pixels, source.mean[:, None, None]), source)
    y = F.pixel_unshuffle(standard(np.where(known, wanted, target.mean[:, None, None]), target)[None], scale)[0]
    coarse = at_centres(x[None], scale)
    whole = _all_within(torch.from_numpy(valid), scale)
    # A neighbourhood that leaves the raster or holds a pixel without data does not count.
    inside = F.max_pool2d(F.pad(1.0 - whole[None].double(), (reach,) * 4, value=1.0), 2 * reach + 1, 1)[0] == 0
    row, col = (block.place.row - block.around.row) // scale, (block.place.col - block.around.col) // scale
    height, width = block.place.height // scale, block.place.width // scale
    usable = inside[row : row + height, col : col + width] & _all_within(torch.from_numpy(known), scale)
    step = max(1, _STRIP_VALUES // (len(sizes.terms) * max(1, width)))
    for first in range(0, height, step):
        stop = min(height, first + step)
        chosen = usable[first:stop]
        if not chosen.any():
            continue
        # With the rows that its neighbourhoods reach.
        begin, end = max(0, row + first - reach), min(coarse.shape[2], row + stop + reach)
        terms = values(coarse[:, :, begin:end], sizes)[0, :, row + first - begin : row + stop - begin]
        terms = terms[:, :, col : col + width][:, chosen].numpy()
        yield np.concatenate([np.ones((1, terms.shape[1])), terms]), y[:, first:stop][:, chosen].numpy()


def standard(pixels: np.ndarray, found: MeanCovariance) -> Tensor:
    """Pixels (C,h,w) in standard deviations from the mean."""
    return torch.from_numpy((pixels - found.mean[:, None, None]) / found.std[:, None, None])


def _all_within(valid: Tensor, scale: int) -> Tensor:
    """Which source pixels (h/k,w/k) are valid at all their places."""
    height, width = (size // scale * scale for size in valid.shape)
    return valid[:height, :width].reshape(height // scale, scale, width // scale, scale).all(3).all(1)
