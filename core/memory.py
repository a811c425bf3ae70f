"""How much memory there is, and the refusal of what needs more."""

import contextlib
from pathlib import Path

from .errors import DeviceError


def available_memory() -> int | None:
    """Bytes that programs can still have, within the limit of the container; None where the system does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found) if found else None


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
    if free is not None and needed > free:
        raise DeviceError(f"{subject} needs {size_text(needed)} of memory for {purpose}, and {size_text(free)} are "
                          f"free: {remedy}.")


def size_text(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
