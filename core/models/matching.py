"""Whether a model suits a raster, and which bands go where, by its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ModelError, RasterError, shorten
from ..grid import distance
from ..raster.rows import Raster
from ..reproject.coordinate_bands import share_outside
from .folders import model_folders
from .manifest import BandSpec, Manifest, read_folder

CLASSES = "takes measured values, the raster has numbers of classes"
"""What is said of a model for a raster that has a colour table or class names."""


class BandsDiffer(ModelError):
    """The bands of a raster are not those that a model takes."""

    reason = ""
    """How they differ, without naming either."""


@dataclass(frozen=True)
class BandChoice:
    """1-based positions of the bands to read, in the model's order, and what the user should know."""

    indexes: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def choose_bands(raster: Raster, manifest: Manifest, chosen: bool = False) -> BandChoice:
    """Maps the raster's bands to the model's: by name, else by colour, else by order with a warning.

    A band that is named after a colour, as red is, has both.

    Args:
        chosen: whether the user named the bands; their order is then taken as it is.

    Raises:
        ModelError: if the bands do not fit.
    """
    wanted, have = manifest.bands_in, raster.bands
    indexes = dict(zip(raster.indexes, have))
    if manifest.network is None or (chosen and len(wanted) == len(have)):
        return BandChoice(raster.indexes)
    names = {(band.name or "").lower(): i for i, band in indexes.items()}
    found = [names.get(spec.name.lower(), names.get(spec.colour)) for spec in wanted]
    if not chosen and all(found):
        return BandChoice(tuple(filter(None, found)))
    expected = shorten(", ".join(spec.name for spec in wanted))
    if len(wanted) != len(have):
        remedy = "choose bands with --bands" if len(have) > len(wanted) else "choose another model"
        raise _differ(manifest, raster, f"takes {len(wanted)} bands ({expected})", f"has {len(have)}", remedy)
    if all(band.name for band in have):
        listed = shorten(", ".join(band.name or "" for band in have))
        raise _differ(manifest, raster, f"takes the bands {expected}", f"has {listed}", "if they correspond in "
                      f"this order, say so with --bands {','.join(str(i) for i in indexes)}")
    colours = {band.colour: i for i, band in indexes.items()}
    if all(spec.colour in colours and spec.colour != "undefined" for spec in wanted):
        return BandChoice(tuple(colours[spec.colour] for spec in wanted))
    return BandChoice(raster.indexes, (f"The bands of {raster.path} have no names; they are taken in order as "
                                       f"{expected}. Say otherwise with --bands.",))


def _differ(manifest: Manifest, raster: Raster, takes: str, has: str, remedy: str) -> BandsDiffer:
    error = BandsDiffer(f"Model {manifest.name} {takes}, and {raster.path} {has}: {remedy}.")
    error.reason = f"{takes}, the raster {has}"
    return error


def bands_named(raster: Raster, specs: Sequence[BandSpec]) -> tuple[int, ...] | None:
    """1-based positions of the bands that have these names, or these colours for names; None where one is missing."""
    names = {(band.name or band.colour or "").lower(): k for k, band in zip(raster.indexes, raster.bands)}
    found = [names.get(spec.name.lower()) for spec in specs]
    return tuple(filter(None, found)) if all(found) and len(names) == len(raster.bands) else None


def bands_misfit(raster: Raster, manifest: Manifest, chosen: bool = False) -> str | None:
    """Why the bands of a raster are not those that a model takes; None where they are."""
    try:
        choose_bands(raster, manifest, chosen)
    except BandsDiffer as error:
        return error.reason
    return None


def misfits(raster: Raster, manifest: Manifest, chosen: bool = False) -> list[str]:
    """Why a model does not suit a raster; empty where it does.

    Args:
        chosen: whether the user named the raster's bands.
    """
    reasons = []
    if manifest.input_model:
        reasons.append(f"takes what model {manifest.input_model} makes: name it to use both")
    of_bands = bands_misfit(raster, manifest, chosen)
    if of_bands:
        reasons.append(of_bands)
    if manifest.network is not None and any(band.classes for band in raster.bands):
        reasons.append(CLASSES)
    body = raster.grid.body
    if manifest.body and body and manifest.body != body:
        reasons.append(f"for {manifest.body}, the raster shows {body}")
    size = raster.grid.pixel_size_m
    if manifest.pixel_size_m and size:
        factor = max(size / manifest.pixel_size_m, manifest.pixel_size_m / size)
        if factor > manifest.pixel_size_factor:
            reasons.append(f"for pixels of {distance(manifest.pixel_size_m)} (within a factor of "
                           f"{manifest.pixel_size_factor:g}), the raster has {distance(size)}")
    if _lies_elsewhere(raster, manifest):
        reasons.append("for another area, on a map where the raster does not lie")
    return reasons


def _lies_elsewhere(raster: Raster, manifest: Manifest) -> bool:
    """Whether all of a raster is outside the area of a model that counts positions there."""
    try:
        return manifest.coordinates is not None and share_outside(raster.grid, manifest.coordinates) == 1
    except RasterError:  # of another body, or without a CRS
        return True


def reasons_against(raster: Raster) -> dict[str, list[str]]:
    """For each model on this machine why it does not suit a raster, by its manifest; empty where it does."""
    reasons = {}
    for name, folder in model_folders().items():
        try:
            reasons[name] = misfits(raster, read_folder(folder))
        except ModelError as error:  # of one folder, which says nothing of the others
            reasons[name] = [str(error).rstrip(".")]
    return reasons
