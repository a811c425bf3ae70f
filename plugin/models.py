"""The models that a dialog offers: what their manifests say, read as plain JSON."""

import json
import os

from .environment import ROOT, user_data

_MOST_BYTES = 4 << 20


def installed():
    """Name -> manifest, with its "folder", of all models, looked up where the command line looks them up."""
    found = {}
    for root in _roots():
        for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
            manifest = read(os.path.join(root, name))
            if manifest is not None:
                found.setdefault(name, manifest)
    return found


def find(text):
    """The manifest of a model named or given as a folder; None where there is none."""
    return installed().get(text) or (read(text) if os.path.isdir(text) else None)


def argument(text):
    """A model as the worker takes it, which works in another folder."""
    return os.path.abspath(text) if text not in installed() and os.path.isdir(text) else text


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
                 *(band["name"] for band in manifest["bands_in"])]
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
    return "; ".join([", ".join(band["name"] for band in manifest["bands_in"]),
                      f"{size:.6g} m" if size else "any pixel size", manifest.get("body") or "any body",
                      *([f"enlarges {scale} times"] if scale != "1" else [])])


def _roots():
    yield from filter(None, os.environ.get("GEOI2I_MODELS", "").split(os.pathsep))
    yield os.path.join(user_data(), "geoi2i", "models")
    yield os.path.join(ROOT, "resources", "models")
