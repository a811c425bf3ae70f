"""The rasters that a folder or a pattern names, and what in it is left alone."""

import glob
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RasterError, one_line
from ..files import PARTS_SUFFIX
from .formats import TIFF, is_raster, why_skipped, without_ending
from .tiff import TiffFile

_METADATA, _METADATA_BYTES, _RESULT = 42112, 1 << 20, b'"GEOI2I_COMMAND"'
_MOST_NAMED = 40


@dataclass(frozen=True)
class Listing:
    """What a name stands for."""

    rasters: list[tuple[str, str]]
    """Sorted, each with its path relative to the folder that it was found in."""
    skipped: str | None = None
    """One line that names the files that may be rasters and are not among them, and why."""


def names_many(text: str) -> bool:
    """Whether a name stands for as many rasters as there are: a folder, a pattern, or `-` for a list."""
    return text == "-" or os.path.isdir(text) or _is_pattern(text)


def find_rasters(text: str, results: bool = True) -> Listing:
    """Rasters that a name stands for.

    Args:
        text: a folder, which is searched with all that is in it; a glob pattern (`**` for folders of any depth); any
            other name, a GDAL path say, is returned as it is.
        results: whether what geoi2i made counts: where not, it is left out beside rasters that it was made of.

    Hidden files and folders are left out, and what runs keep of strips.

    Raises:
        RasterError: for a folder or a pattern without a raster.
    """
    if os.path.isdir(text):
        found, skipped = _sorted_out(_files(text))
        listing = _listing(text, text, found, skipped, results)
        if not listing.rasters:
            raise RasterError(f"The folder {text} holds no raster: name another."
                              f"{' ' + listing.skipped if listing.skipped else ''}")
        return listing
    if _is_pattern(text):
        matches = sorted(glob.glob(text, recursive=True))
        found, skipped = [Path(p) for p in matches if os.path.isfile(p) and PARTS_SUFFIX not in p], {}
        if not os.path.splitext(text)[1].strip(".*?[]"):  # an ending in the pattern says what they are
            found, skipped = _sorted_out(found)
        root = os.path.dirname(text[: min(text.index(c) for c in "*?[" if c in text)]) or "."
        listing = _listing(text, root, found, skipped, results)
        if not listing.rasters:
            raise RasterError(f"{text} matches no {'raster' if skipped else 'file'}: check the pattern."
                              f"{' ' + listing.skipped if listing.skipped else ''}")
        return listing
    return Listing([(text, os.path.basename(text))])


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _files(folder: str) -> Iterator[Path]:
    """What is in a folder, sorted, without what is hidden and the parts of outputs."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (name.startswith(".") or name.endswith(PARTS_SUFFIX))]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return iter(sorted(found))


def _sorted_out(files: Iterable[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The rasters, and what may be one, with the reason why it is left out."""
    found, skipped = [], {}
    for path in files:
        if is_raster(path):
            found.append(path)
        elif why := why_skipped(path):
            skipped[path] = why
    return found, skipped


def _listing(text: str, root: str, found: list[Path], skipped: dict[Path, str], results: bool) -> Listing:
    if not results:
        own = _own_results(found)
        found = [path for path in found if path not in own]
        skipped = {**skipped, **dict.fromkeys(sorted(own), "a result of geoi2i: name it alone to take it")}
    rasters = [(str(path), os.path.relpath(path, root)) for path in found]
    return Listing(rasters, _line(text, root, skipped) if skipped else None)


def _line(text: str, root: str, skipped: dict[Path, str]) -> str:
    """The skipped files, those of one reason together."""
    groups: dict[str, list[str]] = {}
    for path, why in skipped.items():
        groups.setdefault(why, []).append(os.path.relpath(path, root))
    said = [f"{', '.join(names[:_MOST_NAMED])}{f' and {len(names) - _MOST_NAMED} more' * (len(names) > _MOST_NAMED)} "
            f"({why})" for why, names in groups.items()]
    return one_line(f"Skipped in {text}: {'; '.join(said)}.")


def _own_results(found: list[Path]) -> set[Path]:
    """Of the rasters of a folder, those that geoi2i made of others in it.

    Where it made all GeoTIFFs, they are those of another folder, but for names that begin with that of another raster
    beside or above them.
    """
    tiffs = [path for path in found if path.suffix.lower() in TIFF]
    results = {path for path in tiffs if _is_result(path)}
    if len(results) < len(tiffs):
        return results
    stems = {(path.parent, without_ending(path.name)) for path in found}
    return {path for path in results if any(
        (folder, name) in stems for folder in path.parents for name in _origins(path, folder))}


def _origins(path: Path, folder: Path) -> list[str]:
    """Names that the origin of a result may have in a folder: `scene` and `scene_a` of `scene_a_b`; in one above its
    own `scene_a_b` too."""
    parts = without_ending(path.name).split("_")
    return ["_".join(parts[:k]) for k in range(1, len(parts) + (folder != path.parent))]


def _is_result(path: Path) -> bool:
    """Whether a GeoTIFF says in its tags that geoi2i made it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            tiff = TiffFile(file)
            metadata = tiff.directory(tiff.first)[0].get(_METADATA)
            return metadata is not None and _RESULT in tiff.data(metadata, _METADATA_BYTES)
    except (OSError, ValueError, struct.error):
        return False
