"""From what a user types to pairs of input and output: files, folders, globs, lists; one or many."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from ..core.errors import RasterError, one_line
from ..core.output.checks import check_format, check_length
from ..core.raster.formats import READ, TIFF, without_ending
from ..core.raster.listing import find_rasters, names_many
from ..core.raster.remote import is_remote
from . import cancel

_VIRTUAL = re.compile(r"/vsi|[A-Za-z][\w+.-]+:")


def expand(given: tuple[str, ...], message: Callable[[str], None], results: bool = True) -> list[tuple[str, str]]:
    """Every input with its path relative to the folder or glob it came from.

    Args:
        message: is told what of a folder is left out.
        results: whether what geoi2i made of a folder's rasters counts among them.

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
            listing = find_rasters(text, results)
            found += listing.rasters
            if listing.skipped:
                message(listing.skipped)
    return list(dict.fromkeys(found))


def is_batch(given: tuple[str, ...]) -> bool:
    """Whether inputs stand for as many rasters as there are, so that their output is a folder."""
    return len(given) > 1 or any(map(names_many, given))


def check_places(inputs: list[tuple[str, str]], output: str | None) -> None:
    """Raises RasterError where results would stand beside what is not a file."""
    for path, _ in inputs:
        if not output and (is_remote(path) or _is_virtual(path)):
            where = "is on a server" if is_remote(path) else "is not a file by itself"
            raise RasterError(f"{one_line(path)} {where}, so nothing can be written beside it: name an --output.")


def pair(inputs: list[tuple[str, str]], output: str | None, model: str, batch: bool) -> list[tuple[str, Path]]:
    """Where the result of each input goes.

    Args:
        batch: whether the output is a folder, however many inputs there are.

    Raises:
        RasterError: if several inputs would share one output, or an output cannot have its name.
    """
    if output and batch and not os.path.isdir(output) and Path(output).suffix.lower() in READ:
        raise RasterError(f"{one_line(output)} is the name of a file, and the input is a folder, a pattern, a list or "
                          "several rasters: name a folder as --output.")
    if len(inputs) == 1 and output and not batch and not _is_folder(output):
        check_format(Path(output))
        return [(inputs[0][0], Path(output))]
    check_places(inputs, output)
    pairs = []
    for path, relative in inputs:
        if not Path(relative).name or not Path(path).name:
            raise RasterError(f"{path} names no file: name a raster.")
        if output:
            name = without_ending(relative)
            target = Path(output) / f"{_plain(name) if _is_virtual(path) else name}{TIFF[0]}"
        else:
            target = Path(path).with_name(f"{without_ending(Path(path).name)}_{model}{TIFF[0]}")
        check_length(target)
        pairs.append((path, target))
    targets: dict[Path, str] = {}
    for path, target in pairs:
        if target in targets:
            raise RasterError(f"Two inputs would both be written to {target}:", (targets[target], path),
                              "Rename one, or run them one by one.")
        targets[target] = path
    return pairs


def _is_virtual(path: str) -> bool:
    """Whether a path is one that only GDAL knows: in an archive, or a part of a file."""
    return bool(_VIRTUAL.match(path)) and not os.path.lexists(path)


def _plain(name: str) -> str:
    """A name for a file, of the end of a GDAL path."""
    return re.sub(r'[":*?<>|\n\r\t]+', "_", name).strip("_")


def _listed() -> list[str]:
    """The lines of standard input, whatever the encoding of the file names."""
    sys.stdin.reconfigure(errors="surrogateescape")
    text = sys.stdin.read()
    if "\0" in text:
        raise RasterError("Standard input holds a zero byte: give one path a line.")
    return [line.strip() for line in text.split("\n") if line.strip()]


def _is_folder(output: str) -> bool:
    return os.path.isdir(output) or output.endswith(("/", os.sep))
