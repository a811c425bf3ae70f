"""From what a user types to pairs of input and output: files, folders, globs, lists; one or many."""

import os
import sys
from pathlib import Path

from ..core.errors import RasterError
from ..core.raster.listing import find_rasters
from ..core.raster.remote import is_remote
from . import cancel


def expand(given: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every input with its path relative to the folder or glob it came from.

    Raises:
        RasterError: if something given names no file.
    """
    found: list[tuple[str, str]] = []
    for text in given:
        if text == "-":
            if cancel.watching:
                raise RasterError("Standard input cannot hold the list of inputs and cancel the run: leave "
                                  "--cancel-on-stdin out, or name the inputs.")
            found += [(line, os.path.basename(line)) for line in _listed()]
        elif is_remote(text):
            found.append((text, os.path.basename(text.split("?")[0])))
        else:
            found += find_rasters(text)
    return list(dict.fromkeys(found))


def pair(inputs: list[tuple[str, str]], output: str | None, model: str) -> list[tuple[str, Path]]:
    """Where the result of each input goes.

    Raises:
        RasterError: if several inputs would share one output.
    """
    if len(inputs) == 1 and output and not _is_folder(output):
        return [(inputs[0][0], Path(output))]
    pairs = []
    for path, relative in inputs:
        if is_remote(path) and not output:
            raise RasterError(f"{path} is on a server, where nothing can be written: name an --output.")
        if not Path(relative).name or not Path(path).name:
            raise RasterError(f"{path} names no file: name a raster.")
        if output:
            target = Path(output) / Path(relative).with_suffix(".tif")
        else:
            target = Path(path).with_name(f"{Path(path).stem}_{model}.tif")
        pairs.append((path, target))
    targets: dict[Path, str] = {}
    for path, target in pairs:
        if target in targets:
            raise RasterError(f"{path} and {targets[target]} would both be written to {target}: rename one, or run "
                              "them one by one.")
        targets[target] = path
    return pairs


def _listed() -> list[str]:
    """The lines of standard input, whatever the encoding of the file names."""
    sys.stdin.reconfigure(errors="surrogateescape")
    text = sys.stdin.read()
    if "\0" in text:
        raise RasterError("Standard input holds a zero byte: give one path a line.")
    return [line.strip() for line in text.split("\n") if line.strip()]


def _is_folder(output: str) -> bool:
    return os.path.isdir(output) or output.endswith(("/", os.sep))
