"""Whether a model suits a raster, and which bands go where, by its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ModelError
from ..raster.rows import Raster
from .folders import model_folders
from .manifest import BandSpec, Manifest, read_folder


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
        return BandChoice(tuple(found))
    if len(wanted) != len(have):
        listed = ", ".join(spec.name for spec in wanted)
        found = ", ".join(band.name or f"band {i}" for i, band in indexes.items())
        remedy = "Choose bands with --bands" if len(have) > len(wanted) else "Choose another model"
        raise ModelError(f"Model {manifest.name} takes {len(wanted)} bands ({listed}); {raster.path} gives "
                         f"{len(have)} ({found}). {remedy}.")
    if all(band.name for band in have):
        listed = ", ".join(band.name for band in have)
        expected = ", ".join(spec.name for spec in wanted)
        raise ModelError(f"The bands of {raster.path} are named {listed}; model {manifest.name} takes {expected}. "
                         "If they correspond in this order, say so with --bands "
                         f"{','.join(str(i) for i in indexes)}.")
    colours = {band.colour: i for i, band in indexes.items()}
    if all(spec.colour in colours and spec.colour != "undefined" for spec in wanted):
        return BandChoice(tuple(colours[spec.colour] for spec in wanted))
    expected = ", ".join(spec.name for spec in wanted)
    return BandChoice(raster.indexes, (f"The bands of {raster.path} have no names; they are taken in order as "
                                       f"{expected}. Say otherwise with --bands.",))


def bands_named(raster: Raster, specs: Sequence[BandSpec]) -> tuple[int, ...] | None:
    """1-based positions of the bands that have these names, or these colours for names; None where one is missing."""
    names = {(band.name or band.colour or "").lower(): k for k, band in zip(raster.indexes, raster.bands)}
    found = [names.get(spec.name.lower()) for spec in specs]
    return tuple(found) if all(found) and len(names) == len(raster.bands) else None


def misfits(raster: Raster, manifest: Manifest) -> list[str]:
    """Why a model does not suit a raster; empty where it does."""
    reasons = []
    if manifest.input_model:
        reasons.append(f"it takes what model {manifest.input_model} makes: name it to use both")
    try:
        choose_bands(raster, manifest)
    except ModelError as error:
        reasons.append(str(error))
    body = raster.grid.body
    if manifest.body and body and manifest.body != body:
        reasons.append(f"it is for {manifest.body} and the raster shows {body}")
    size = raster.grid.pixel_size_m
    if manifest.pixel_size_m and size:
        factor = max(size / manifest.pixel_size_m, manifest.pixel_size_m / size)
        if factor > manifest.pixel_size_factor:
            reasons.append(f"it is for pixels of {manifest.pixel_size_m:.6g} m (within a factor of "
                           f"{manifest.pixel_size_factor:g}) and the raster has {size:.6g} m")
    return reasons


def reasons_against(raster: Raster) -> dict[str, list[str]]:
    """For each model on this machine why it does not suit a raster, by its manifest; empty where it does."""
    reasons = {}
    for name, folder in model_folders().items():
        try:
            reasons[name] = misfits(raster, read_folder(folder))
        except ModelError as error:  # of one folder, which says nothing of the others
            reasons[name] = [str(error).rstrip(".")]
    return reasons
