"""`geoi2i doctor`: what this installation can use."""

import importlib.metadata
import platform

import click

PACKAGES = ("torch", "numpy", "rasterio", "pyproj", "shapely", "kornia", "torchmetrics", "click", "pydantic",
            "safetensors", "rich", "lightning-fabric", "tensorboard")


@click.command()
def command() -> None:
    """Show versions, devices and models, and what is missing."""
    import torch
    from rasterio import __gdal_version__

    from .. import __version__
    from ..core.device import worker_count
    from ..core.fit import model_folders

    click.echo(f"geoi2i      {__version__}, Python {platform.python_version()}, {platform.system()}")
    for name in PACKAGES:
        try:
            click.echo(f"{name:<17} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            extra = "  (needed by `geoi2i train`: pip install geoi2i[train])" if name.startswith("l") else ""
            click.echo(f"{name:<17} missing{extra}")
    click.echo(f"{'GDAL':<17} {__gdal_version__} (in rasterio)")
    click.echo(f"{'CPU':<17} {worker_count(torch.device('cpu'))} cores")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    click.echo(f"{'GPU':<17} {', '.join(gpus) if gpus else 'none that torch can use; runs on the CPU'}")
    click.echo(f"{'models':<17} {', '.join(model_folders()) or 'none'}")
