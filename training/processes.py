"""Processes that train together: torchrun starts them, lightning Fabric connects them, gradients are averaged."""

import atexit
import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from torch import Tensor, distributed

from ..core.device import choose_device
from ..core.errors import DeviceError, RecipeError

_FAREWELL_S = 2.0


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that train together; alone, unless torchrun started it."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes and reports."""
        return self.rank == 0

    def turn(self, step: int) -> int:
        """The step whose windows and random numbers this process takes at the run's `step`; no two share one."""
        return step * self.world + self.rank

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Makes every gradient the mean over all processes, with one message.

        Where a gradient is missing it counts as zero, and where all processes miss it, it stays missing. Every
        process must come here as often and with the same parameters.
        """
        if self.world == 1:
            return
        parameters = list(parameters)
        there = [p.grad is not None for p in parameters]
        sums = torch.cat([*(torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters),
                          *(p.new_full((1,), float(has)) for p, has in zip(parameters, there))])
        with self._connected():
            distributed.all_reduce(sums)
        *means, counts = sums.div_(self.world).split([*(p.numel() for p in parameters), len(parameters)])
        if not all(there):  # else no need to read from the device, which would wait for it
            there = [count > 0 for count in counts.tolist()]
        for p, mean, has in zip(parameters, means, there):
            p.grad = mean.view_as(p).to(p.dtype) if has else None

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order of rank; all wait here for each other."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        with self._connected():
            distributed.all_gather_object(values, value)
        return values

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Each figure averaged over the processes that have it."""
        seen = self.gather(figures)
        found = {name: [part[name] for part in seen if name in part] for part in seen for name in part}
        return {name: sum(values) / len(values) for name, values in found.items()}

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For what each process does for itself: an error in any of them ends all, and one of them raises it."""
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        failed = [rank for rank, has in enumerate(self.gather(error is not None)) if has]
        if failed:
            _end(error, tells=failed[0] == self.rank)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as lost:
            error = DeviceError("Another process of this training has ended: read its message, and resume from the "
                                "last checkpoint with --resume.")
            error.__cause__ = lost
            _end(error, tells=self.main)


ALONE = Processes()


def connect(device: str) -> tuple[Fabric, Processes]:
    """The device of this process, and its place among those that torchrun started; may be called again.

    Args:
        device: auto, cpu, cuda or cuda:N; of several processes each takes a device of its own.

    Raises:
        DeviceError: for a device that is not there, and where a node has fewer GPUs than processes.
        RecipeError: where the nodes have different numbers of processes.
    """
    chosen = choose_device(device)
    if not TorchElasticEnvironment.detect():
        return Fabric(accelerator=chosen.type, devices=1 if chosen.type == "cpu" else [chosen.index or 0]), ALONE
    accelerator = chosen.type
    here, nodes, world, local = (int(os.environ[name]) for name in (
        "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "WORLD_SIZE", "LOCAL_RANK"))
    gpus = torch.cuda.device_count()
    if accelerator != "cpu" and 0 < gpus < here:
        _end(DeviceError(f"This node has {gpus} GPUs for {here} processes: start torchrun with --nproc-per-node "
                         f"{gpus}, or train with --device cpu."), tells=local == 0)
    if here * nodes != world:
        _end(RecipeError(f"{world} processes on {nodes} nodes are not as many on each, and this one has {here}: give "
                         "torchrun the same --nproc-per-node everywhere."), tells=local == 0)
    fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=nodes)
    if not distributed.is_initialized():
        atexit.register(_leave)
    fabric.launch()
    return fabric, Processes(fabric.global_rank, fabric.world_size)


def _leave() -> None:
    """Ends gloo's threads while there is an interpreter: one that lets go of a Python object later aborts all."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _end(error: Exception | None, tells: bool) -> NoReturn:
    """Ends this process: with the error where this is the one that tells it, in silence elsewhere."""
    if tells and error:
        raise error
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(_FAREWELL_S)  # torchrun stops all when the first has ended: that should be the one that tells
    raise SystemExit(2)
