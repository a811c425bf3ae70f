"""`geoi2i doctor`: what this installation can use."""

import importlib.metadata
import platform
import sys

import click

NEEDED = ("torch", "numpy", "rasterio", "pyproj", "shapely", "click", "pydantic", "safetensors", "rich", "jinja2",
          "psutil")
OPTIONAL = {"kornia": ("`geoi2i train`", "train"), "lightning-fabric": ("`geoi2i train`", "train"),
            "tensorboard": ("`geoi2i train`", "train"),
            "torchmetrics": ("the metrics LPIPS and DISTS", "metrics"),
            "distributed": ("--workers and --scheduler", "dask"), "cryptography": ("--workers", "dask"),
            "diffusers": ("models that work on latents", "diffusion"),
            "transformers": ("training C-DiffSET", "diffusion")}
"""What it is for, and the extra that brings it."""


@click.command()
def command() -> int:
    """Show versions, devices and models, and what is missing; exit code 2 where something needed is."""
    from .. import __version__

    click.echo(f"geoi2i            {__version__}, {platform.system()}")
    click.echo(f"Python            {platform.python_version()}, {sys.executable}")
    missing = [name for name in NEEDED if not _show(name, "missing")]
    for name, (what, extra) in OPTIONAL.items():
        _show(name, f"missing  (needed for {what}: pip install 'geoi2i[{extra}]')")
    if missing:
        from .events import current

        current().failed(f"{sys.executable} lacks {', '.join(missing)}: install with {sys.executable} -m pip install "
                         f"{' '.join(missing)}", 2)
        return 2
    import torch
    from rasterio import __gdal_version__

    from ..core.device import worker_count
    from ..core.models.folders import model_folders

    click.echo(f"{'GDAL':<17} {__gdal_version__} (in rasterio)")
    click.echo(f"{'CPU':<17} {worker_count(torch.device('cpu'))} cores")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    click.echo(f"{'GPU':<17} {', '.join(gpus) if gpus else 'none that torch can use; runs on the CPU'}")
    click.echo(f"{'models':<17} {', '.join(model_folders()) or 'none'}")
    return 0


def _show(name: str, otherwise: str) -> bool:
    """One line for a package; whether it is there."""
    try:
        click.echo(f"{name:<17} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        click.echo(f"{name:<17} {otherwise}")
        return False
    return True
