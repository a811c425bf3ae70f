"""The models on this machine: their names, and the folders that they are in."""

import os
from pathlib import Path

from ..errors import ModelError, shorten
from ..folders import user_data

BUNDLED = Path(__file__).resolve().parents[2] / "resources" / "models"


def model_folders() -> dict[str, Path]:
    """Names and folders of all models: GEOI2I_MODELS, the user's data folder, then the bundled ones."""
    roots = [Path(p) for p in os.environ.get("GEOI2I_MODELS", "").split(os.pathsep) if p]
    roots += [user_models(), BUNDLED]
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob("*/manifest.json")) if root.is_dir() else ():
            found.setdefault(path.parent.name, path.parent)
    return found


def user_models() -> Path:
    """Where a user's own models live."""
    return user_data() / "geoi2i" / "models"


def find_folder(name: str) -> Path:
    """The folder of a model, by its name; or the folder that is named.

    Raises:
        ModelError: if there is none, with the names there are.
    """
    folders = model_folders()
    if name in folders:
        return folders[name]
    if os.path.isdir(name) or os.sep in name:
        return Path(name)
    listed = ", ".join(folders) or "none installed"
    raise ModelError(f"No model is named {shorten(repr(name))} (there are: {listed}): name one of these or a "
                     "model folder.")
