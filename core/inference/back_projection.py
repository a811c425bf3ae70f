"""Holding an enlarged raster to what it was made from: averages over the input's pixels are its numbers then."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

Values = tuple[int, Tensor | None, list[Tensor]]
"""Rows of a raster: their first, their mask (M,h,W), and kinds of numbers, each (C,h,W)."""


def held(rows: Iterator[Values], part: tuple[int, int], times: int,
         averages: Callable[[int, int], tuple[Tensor, Tensor]]) -> Iterator[Values]:
    """Rows whose first kind of numbers is held to averages over blocks of `times` x `times` pixels.

    Args:
        rows: from a whole block before `part`, or at it, to one behind.
        part: the rows that are wanted.
        averages: of the blocks in rows start..stop (of blocks), and where they are known; see `held_to`.
    """
    for row, mask, (first, *others) in _in_blocks(rows, times):
        first = held_to(first, *averages(row // times, (row + first.shape[1]) // times), times)
        kept = slice(max(0, part[0] - row), max(0, part[1] - row))
        values = [each[:, kept] for each in (first, *others)]
        if values[0].shape[1]:
            yield max(row, part[0]), None if mask is None else mask[:, kept], values


def held_to(values: Tensor, averages: Tensor, known: Tensor, times: int) -> Tensor:
    """Values (C,h,W) whose average over each block of `times` x `times` pixels is the one given (C,h/times,W/times).

    The difference is added to all pixels of the block: back-projection, which for averages is done in one step. Where
    an average is not `known` (1 or C,...), the block stays as it is.
    """
    off = torch.where(known, averages - F.avg_pool2d(values, times), 0.0)
    return values + off.repeat_interleave(times, 1).repeat_interleave(times, 2)


def _in_blocks(rows: Iterator[Values], times: int) -> Iterator[Values]:
    """The same rows in pieces of whole multiples of `times`, as long as they begin at one."""
    waiting: list[Values] = []
    for piece in rows:
        waiting.append(piece)
        height = sum(values[0].shape[1] for _, _, values in waiting)
        whole = height // times * times
        if whole:
            first, mask, values = _joined(waiting)
            yield first, None if mask is None else mask[:, :whole], [each[:, :whole] for each in values]
            waiting = [(first + whole, None if mask is None else mask[:, whole:], [each[:, whole:] for each in values])]
            waiting = waiting if whole < height else []


def _joined(pieces: list[Values]) -> Values:
    masks = [mask for _, mask, _ in pieces]
    if all(mask is None for mask in masks):
        whole = None
    else:
        depth = max(mask.shape[0] for mask in masks if mask is not None)
        whole = torch.cat([values[0].new_full((depth, *values[0].shape[1:]), 255) if mask is None
                           else mask.expand(depth, -1, -1).to(values[0]) for _, mask, values in pieces], 1)
    return pieces[0][0], whole, [torch.cat(each, 1) for each in zip(*(values for _, _, values in pieces))]
