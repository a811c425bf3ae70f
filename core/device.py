"""The compute device: which one, how many windows side by side, and what running out of memory looks like."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

from .cores import cpu_workers, place
from .errors import DeviceError, shorten

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BF16_FROM = 8
"""Compute capability of the first GPUs (Ampere) whose hardware knows bfloat16."""


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that exists.

    Raises:
        DeviceError: if the device is not there.
    """
    if name == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device("cpu" if not count else f"cuda:{gpu_of(place.rank, count)}" if count > 1 else "cuda")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name} is not a device: use auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"{name} is not there: this machine has {torch.cuda.device_count()} CUDA devices. "
                          "Use --device auto or cpu.")
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"Device {name} is not supported: use auto, cpu, cuda or cuda:0.")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`auto`, or one of `PRECISIONS`, as one of these: auto is bf16 on a GPU that has it, else fp32."""
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _BF16_FROM else "fp32"


@contextlib.contextmanager
def whole_fp32() -> Iterator[None]:
    """While this lasts, float32 on a GPU is float32: by default cuDNN rounds to the 10 bits of TF32 (process-wide)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def compiled(network: torch.nn.Module) -> Callable[..., torch.Tensor]:
    """A network as torch.compile makes it, when it is first called.

    Raises:
        DeviceError: at that call, where it cannot be compiled.
    """
    faster = torch.compile(network)

    def call(*arguments):
        from torch._dynamo.exc import TorchDynamoException

        try:
            return faster(*arguments)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise DeviceError(f"torch.compile cannot compile the network here ({shorten(reason[0])}): install a C++ "
                              "compiler (on a GPU, Triton), or leave --compile out.") from error

    return call


def worker_count(device: torch.device) -> int:
    """Windows predicted side by side: one a core on a CPU, one batch at a time on a GPU."""
    return 1 if device.type != "cpu" else cpu_workers()


def gpu_of(rank: int, count: int) -> int:
    """Which of `count` GPUs the process of this number on a machine takes; the first where the system chose for it."""
    return 0 if "CUDA_VISIBLE_DEVICES" in os.environ else rank % count


def one_thread_each() -> None:
    """Initialiser of a CPU worker: windows run side by side, so each uses one thread inside."""
    torch.set_num_threads(1)


def ahead(pool: ThreadPoolExecutor, work: Callable, items: list, count: int) -> Iterator:
    """Results in order, with `count` pieces of work under way; unlike `map`, no more than that."""
    left = iter(items)
    waiting = [pool.submit(work, item) for item in islice(left, count)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(work, item) for item in islice(left, 1)]


@contextlib.contextmanager
def one_thread_here() -> Iterator[None]:
    """Operations of the calling thread use one core: the others compute windows, read and write meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Keeps freed blocks in the process while this context lasts (glibc only, process-wide).

    By default glibc returns every large activation to the system and pays page faults for the whole
    tensor at the next layer; a convolutional network spends most of its time there.
    """
    libc = _glibc()
    if libc is not None:
        with contextlib.suppress(AttributeError):
            arena_max, mmap_max, trim_threshold, top_pad = -8, -4, -1, -2
            for option, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, 2**31 - 1),
                                  (top_pad, 64 << 20)):
                libc.mallopt(option, value)
    try:
        yield
    finally:
        release_memory()


def release_memory() -> None:
    """Returns freed blocks to the system (glibc only)."""
    with contextlib.suppress(AttributeError):
        _glibc().malloc_trim(0)


def _glibc():
    """The C library, or None where it is not glibc."""
    with contextlib.suppress(OSError):
        return ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
