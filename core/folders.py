"""Folders: where programs keep a user's data, and how much room there is."""

import os
import shutil
import sys
from pathlib import Path


def user_data() -> Path:
    """The folder under which each program has one of its own."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home()))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not exist yet."""
    folder = folder.absolute()
    return shutil.disk_usage(next(p for p in [folder, *folder.parents] if p.exists())).free
