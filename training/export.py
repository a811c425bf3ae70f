"""From a trained run to a model package."""

from pathlib import Path
from typing import Any

from ..core.models.package import ModelPackage, save_package
from .describe import describe
from .state import Run, shipped


def export_run(run: Run, folder: Path, metrics: dict[str, Any] | None = None) -> ModelPackage:
    """Writes the run's averaged generator, its sampler and its recipe as a package folder."""
    manifest = describe(run.recipe, run.method, run.networks).model_copy(update={"metrics": metrics or {}})
    return save_package(folder, manifest, shipped(run), run.networks.get("codec"))
