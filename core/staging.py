"""Copies between the machine's memory and a GPU's that run beside the computing, through pinned buffers.

    upload     array -> pinned buffer -> copy stream -> tensor that the computing stream waits for
    download   tensor -> copy stream -> pinned buffer; the array is asked for when the next rows are under way

PyTorch keeps the pinned buffers and gives them out again when no copy uses them any more. On a CPU nothing is copied.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; on a CPU they share their memory.

    What is computed with it from here on waits for the copy, and the calling thread does not.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device, "up")
    with torch.cuda.stream(copying):
        there = tensor.pin_memory().to(device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)  # its memory is not given out again before that stream is done with it
    return there


def download(tensor: Tensor) -> Callable[[], np.ndarray]:
    """Begins to bring a tensor to the machine's memory; what is returned waits for it and gives the array."""
    if tensor.device.type != "cuda":
        return lambda: tensor.cpu().numpy()
    computing, copying = torch.cuda.current_stream(tensor.device), _copy_stream(tensor.device, "down")
    copying.wait_stream(computing)
    with torch.cuda.stream(copying):
        here = tensor.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(copying)
    tensor.record_stream(copying)

    def array() -> np.ndarray:
        copied.synchronize()
        return here.numpy()

    return array


def asked_late(begun: Iterable[Callable[[], T]], behind: int) -> Iterator[T]:
    """What each of several things under way gives, in their order, asked for when `behind` more have begun."""
    waiting: list[Callable[[], T]] = []
    for each in begun:
        waiting.append(each)
        if len(waiting) > behind:
            yield waiting.pop(0)()
    while waiting:
        yield waiting.pop(0)()


@lru_cache(maxsize=64)
def _copy_stream(device: torch.device, direction: str) -> "torch.cuda.Stream":
    """A GPU copies in both directions at a time, so each has its stream."""
    return torch.cuda.Stream(device)
