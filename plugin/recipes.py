"""The recipes that a dialog offers, by what they learn from."""

import os
import re

from .environment import ROOT, user_data
from .text import tr

UNPAIRED = ("sp_i2i", "unsb", "cut", "cyclegan", "stegogan")
"""Methods for rasters of different places; all others learn from pairs."""
_METHOD = re.compile(r"""^method\s*=\s*["'](\w+)["']""", re.M)
_MOST_BYTES = 1 << 20


def groups():
    """(heading, {text to show: value}) for unpaired and paired rasters, and for the user's own recipes."""
    ours = _recipes(os.path.join(ROOT, "resources", "recipes"))
    unpaired = [name for name, (_, method) in ours.items() if method in UNPAIRED]
    return [(tr("For unpaired rasters, of any places"), {name: name for name in unpaired}),
            (tr("For paired rasters, of the same pixels"), {name: name for name in ours if name not in unpaired}),
            (tr("Your recipes"), {name: path for name, (path, _) in _recipes(user_recipes()).items()})]


def user_recipes():
    """Where a user's own recipes live."""
    return os.path.join(user_data(), "geoi2i", "recipes")


def about(text):
    """What a recipe says of itself in its first line; "" where it says nothing."""
    path = os.path.join(ROOT, "resources", "recipes", text + ".toml") if text.isidentifier() or "-" in text else text
    content = _read(path if os.path.isfile(path) else text)
    first = content.partition("\n")[0]
    return first[1:].strip() if first.startswith("#") else ""


def is_file(text):
    """Whether a recipe is named by its file."""
    return text.endswith(".toml")


def _recipes(folder):
    """Name -> (path, method) of the recipes in a folder."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else ()
    paths = {name[:-len(".toml")]: os.path.join(folder, name) for name in names if name.endswith(".toml")}
    found = {name: (path, _METHOD.search(_read(path))) for name, path in paths.items()}
    return {name: (path, method.group(1)) for name, (path, method) in found.items() if method}


def _read(path):
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
