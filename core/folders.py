"""Where programs keep a user's data, by the platform's convention."""

import os
import sys
from pathlib import Path


def user_data() -> Path:
    """The folder under which each program has one of its own."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home()))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
