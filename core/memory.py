"""How much memory there is, and the refusal of what needs more."""

import contextlib
from pathlib import Path

import psutil

from .errors import DeviceError


def available_memory() -> int:
    """Bytes that programs can still have, within the limit of the container."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # another system, or a container without a limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        return max(0, min(available, limit - used))
    return available


def check_memory(needed: int, subject: str, purpose: str, remedy: str) -> None:
    """Refuses what needs more memory than there is.

    Args:
        needed: bytes.
        subject: what needs them, for the message: a path or "The model".
        purpose: what for: "rows of the raster".

    Raises:
        DeviceError: with the remedy.
    """
    free = available_memory()
    if needed > free:
        raise DeviceError(f"{subject} needs {size_text(needed)} of memory for {purpose}, and {size_text(free)} are "
                          f"free: {remedy}.")


def size_text(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
