"""Models side by side: what each makes of a source becomes one more prediction."""

import os
from pathlib import Path


def planned(models: tuple[str, ...], source: str, folder: str) -> dict:
    """The model packages by the paths of the rasters that they will make, which have their names, or those of their
    folders where several have one name.

    Raises:
        ModelError: for a model that is not found.
    """
    from ..core.models.package import find_model, identity_package
    from ..core.raster.source import RasterSource

    packages = {model: identity_package(len(RasterSource.open(source).bands)) if model == "identity"
                else find_model(model) for model in models}
    names = [package.manifest.name for package in packages.values()]
    found: dict = {}
    for model, package in packages.items():
        name = package.manifest.name
        if names.count(name) > 1:  # trained into different folders, say
            name = "-".join(part for part in Path(model).parts[-2:] if part not in (".", "..", os.sep))
        while str(Path(folder) / f"{name}.tif") in found:
            name += "-2"
        found[str(Path(folder) / f"{name}.tif")] = package
    return found


def translate(source: str, path: str, package, device: str, reporter) -> None:
    """Makes the raster of a model."""
    from ..core.run import Callbacks, Compute, translate_raster

    name = Path(path).stem
    reporter.restart()
    translate_raster(source, path, package, compute=Compute(device=device), callbacks=Callbacks(
        progress=lambda done, total: reporter.progress(done, total, f"translating with {name}"),
        message=reporter.message, warning=reporter.warning))
    reporter.close()
