"""The models that a dialog offers: what their manifests say, read as plain JSON."""

import json
import os

from qgis.core import QgsSettings

from .environment import ROOT, user_data
from .text import tr
from .words import length

_MOST_BYTES = 4 << 20
_SETTING, _MOST_REMEMBERED = "geoi2i/models", 50


def installed():
    """Name -> manifest, with its "folder", of all models: those that the command line knows, and those made here."""
    rooted = _rooted()
    return {**rooted, **{name: made for name, made in _made().items() if name not in rooted}}


def _rooted():
    """The models that are looked up where the command line looks them up."""
    found = {}
    for root in _roots():
        for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
            manifest = read(os.path.join(root, name))
            if manifest is not None:
                found.setdefault(name, manifest)
    return found


def _made():
    """The models that were made in QGIS, in folders of the user's."""
    found = ((os.path.basename(folder), read(folder)) for folder in _remembered())
    return {name: manifest for name, manifest in found if manifest is not None}


def remember(folder):
    """Has dialogs offer a model that was made in a folder of the user's."""
    others = [other for other in _remembered() if os.path.basename(other) != os.path.basename(folder)]
    QgsSettings().setValue(_SETTING, [os.path.abspath(folder), *others][:_MOST_REMEMBERED])


def _remembered():
    found = QgsSettings().value(_SETTING, []) or []
    return [found] if isinstance(found, str) else [folder for folder in found if isinstance(folder, str)]


def find(text):
    """The manifest of a model named or given as a folder; None where there is none."""
    return _rooted().get(text) or (read(text) if os.path.isdir(text) else _made().get(text))


def argument(text):
    """A model as the worker takes it, which works in another folder and knows nothing of what QGIS remembers."""
    found = None if text in _rooted() else find(text)
    return os.path.abspath(found["folder"]) if found else os.path.abspath(text) if os.path.isdir(text) else text


def surroundings(variables, text):
    """Variables in which the worker's list holds what QGIS remembers, and the model that is named if it is a folder."""
    folders = [os.path.abspath(text)] if text and os.path.isdir(text) else []
    parents = [os.path.dirname(folder) for folder in folders + _remembered()]
    named = [*filter(None, variables.get("GEOI2I_MODELS", "").split(os.pathsep)), *parents]
    return dict(variables, **({"GEOI2I_MODELS": os.pathsep.join(dict.fromkeys(named))} if named else {}))


def verdicts(answers, chosen):
    """A line a model of the worker's list, those that suit first; of the chosen one alone, where one is chosen."""
    if chosen:
        folder = (find(chosen) or {}).get("folder", chosen)
        answers = [model for model in answers if _same(model["folder"], folder)]
    answers = sorted(answers, key=lambda model: bool(model["misfits"]))
    return ["{}: {}".format(model["name"], _verdict(model)) for model in answers]


def _verdict(model):
    others = [reason for reason in model["misfits"] if reason != model.get("bands_misfit")]
    if others:
        return others[0]
    if model["misfits"]:
        return tr("choose {} input bands: {}").format(len(model["bands_in"]), ", ".join(model["bands_in"]))
    return tr("suits the input")


def _same(one, other):
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def takes(manifest, bands):
    """Whether a model can take so many bands, or those of these names; the worker decides about what is doubtful.

    Args:
        bands: how many were chosen; or the names of all there are, of which those with the right names are taken; or
            None, where nobody knows.
    """
    wanted = manifest["bands_in"]
    if bands is None or not wanted:
        return True
    if isinstance(bands, int):
        return bands == len(wanted)
    known = {name.lower() for name in bands}
    return len(bands) == len(wanted) or all(
        band["name"].lower() in known or (band.get("colour") or "").lower() in known for band in wanted)


def band_names(manifest):
    """What the input bands are called, by colour where they have one."""
    return [band.get("colour") if band.get("colour") not in (None, "undefined") else band["name"]
            for band in manifest["bands_in"]]


def read(folder):
    """The manifest of a model folder, or None where it is none; the worker, which checks it whole, says why."""
    path = os.path.join(folder, "manifest.json")
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:  # a pipe would stop QGIS
            return None
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        manifest = dict(manifest, folder=folder)
        texts = [manifest["name"], manifest.get("title", ""), manifest.get("body") or "",
                 *(band["name"] for band in manifest["bands_in"]),
                 *(band.get("colour") or "" for band in manifest["bands_in"])]
        numbers = [manifest.get("pixel_size_m") or 0, manifest.get("tile_px") or 1]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = all(isinstance(text, str) for text in texts) and all(
        isinstance(number, (int, float)) and abs(number) < 1e15 for number in numbers)
    return manifest if sound else None


def summary(manifest):
    """One line: bands, pixel size, body."""
    size = manifest.get("pixel_size_m")
    scale = str(manifest.get("scale") or 1)
    return "; ".join([", ".join(band_names(manifest)),
                      length(size) if size else "any pixel size", manifest.get("body") or "any body",
                      *([f"enlarges {scale} times"] if scale != "1" else [])])


def _roots():
    yield from filter(None, os.environ.get("GEOI2I_MODELS", "").split(os.pathsep))
    yield os.path.join(user_data(), "geoi2i", "models")
    yield os.path.join(ROOT, "resources", "models")
