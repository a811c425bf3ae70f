"""`geoi2i experiment`: published comparisons on a user's own data."""

from pathlib import Path

import click

from .help import grouped
from .options import Bands, Numbers, cancel_option, device_option, events_option, set_option, verbose_option


@click.group()
def command() -> None:
    """Run a published comparison on rasters of your own."""


@command.command("domain-gap", cls=grouped(
    Input="source target", Training="set seeds steps psf noise north", Metric="metric range rgb judged-tile weights",
    Compute="device", Output="output"))
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--source", metavar="SRC", required=True, help="Raster of the coarse sensor.")
@click.option("--target", metavar="DST", required=True, help="Raster of the fine sensor, of the same area.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Folder for data, models and the page.")
@set_option("Override a value of every recipe.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings of each kind.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: the recipe's]")
@click.option("--psf", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Width of the point spread of the degraded images at half height, in coarse pixels.")
@click.option("--noise", type=click.FloatRange(min=0), default=0.01, show_default=True,
              help="Noise of the degraded images, as a share of each band's deviation.")
@click.option("--north", type=click.FloatRange(0.1, 0.9), default=0.65, show_default=True,
              help="Share of the rows that train; the south is judged.")
@click.option("--judged-tile", type=click.IntRange(min=16), default=48, show_default=True,
              help="Side of the tiles that are judged, in fine pixels.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Metric that judges, of two images of one place; may be repeated.  [default: psnr, ssim, rmse, sam]")
@click.option("--range", "value_range", type=Numbers(2), metavar="LOW,HIGH",
              help="Values shown as black and as full.  [default: percentiles of the fine raster]")
@click.option("--rgb", type=Bands(), metavar="3,2,1", help="Which of the bands are red, green and blue.")
@click.option("--weights", metavar="DIR", type=click.Path(path_type=Path), envvar="GEOI2I_WEIGHTS",
              help="Folder of network weights, for LPIPS-Sat, LPIPS and DISTS; nothing is downloaded.")
@device_option
@events_option
@cancel_option
@verbose_option
def domain_gap(recipes, source, target, output, overrides, seeds, steps, psf, noise, north, judged_tile, device, events,
               verbose, **judging) -> None:
    """Compare models trained on degraded images with models trained on the real sensor's (Mind the Gap).

    The first RECIPE says data, network and budget for all; each adds its method. The cubic kernel is always there;
    put recipe regression among them for the honest baseline.

    \b
    geoi2i experiment domain-gap regression flow --source landsat.tif --target sentinel2.tif --set data.scale=3 -o gap
    """
    from ..core.evaluation.evaluate import EvaluationOptions
    from ..core.writing import write_whole
    from .events import choose
    from .train import resolve_recipe

    reporter = choose(events)
    try:
        from ..training import domain_gap as experiment
        from ..training import domain_gap_page
    except ImportError as error:
        raise click.ClickException(f"Training needs further packages ({error.name} is missing): "
                                   "pip install 'geoi2i[train]'.") from error
    resolved = [resolve_recipe(recipe, [source], [target], overrides, steps) for recipe in recipes]
    found = experiment.domain_gap(
        resolved, output, seeds=seeds, degradation=experiment.Degradation(psf, noise), split=experiment.Split(north),
        tile_px=judged_tile, judging=EvaluationOptions(**judging), device=device, report=reporter.message)
    data = resolved[0].data
    summary = (f"`geoi2i experiment domain-gap {' '.join(recipes)}`: {Path(source).name} to {Path(target).name}, "
             f"{data.scale} times finer; {resolved[0].budget.steps} steps of {data.batch} windows of {data.window_px} "
             f"pixels, {seeds} seeds. Degraded images: point spread of {psf:g} coarse pixels, the mean over each of "
             f"them, noise of {noise:g} deviations.")
    text, page = domain_gap_page.page(found, summary), output / "domain-gap.md"
    write_whole(page, text)
    write_whole(output / "domain-gap.json", domain_gap_page.to_json(found))
    reporter.result(text)
    reporter.done({str(page): f"Wrote {page}"})
