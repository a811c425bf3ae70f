"""Where an output goes: what cannot be written, or must not be overwritten."""

import os
from pathlib import Path

from .errors import RasterError


def check_output(path: Path, overwrite: bool) -> None:
    """Raises RasterError where the output cannot or must not be written; touches nothing."""
    check_place(path)
    check_name(path, overwrite)


def check_place(path: Path) -> None:
    """Raises RasterError where the output cannot be written."""
    folder = path.parent
    if path.is_dir():
        raise RasterError(f"{path} is a folder: name a file, for example {path / 'output.tif'}.")
    if not folder.is_dir():
        raise RasterError(f"The output folder {folder} does not exist: create it, or choose another.")
    if not os.access(folder, os.W_OK):
        raise RasterError(f"Nothing can be written in {folder} (read-only): choose another output folder.")


def check_name(path: Path, overwrite: bool) -> None:
    """Raises RasterError where the output must not be written."""
    if path.exists() and not overwrite:
        raise RasterError(f"{path} exists already: give --overwrite to replace it, or name another output.")


def same_file(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    """Whether both paths name one existing file."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False
