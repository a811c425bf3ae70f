"""`geoi2i fit`: models that are solved for in seconds."""

from pathlib import Path

import click

from .help import grouped
from .options import cancel_option, events_option, opens_once, set_option, verbose_option


@click.command(cls=grouped(
    Input="source target set",
    Linear="neighbourhood squares means validation",
    Local="cells smoothing",
    Histogram="rounds knots",
    Latitude="latitude-order",
    Output="output"))
@click.argument("kind", type=click.Choice(["linear", "local", "moments", "transport", "histogram"]))
@click.option("--source", multiple=True, required=True, metavar="SRC",
              help="Source rasters: file, folder or glob; may be repeated.")
@click.option("--target", multiple=True, required=True, metavar="DST",
              help="Target rasters: file, folder or glob; may be repeated.")
@set_option("Set a key of a recipe's data, bands or package, for example data.match_grid=true. May be repeated.")
@click.option("--neighbourhood", type=click.IntRange(1, 15), metavar="N",
              help="Weight N x N pixels, N odd.  [default: what does best on rows that are held out]")
@click.option("--squares", is_flag=True, help="Take squares and products of the centre pixel's bands, too.")
@click.option("--means", metavar="3,7,15,31", help="Take means over squares of these sides, too; at most four, odd.")
@click.option("--validation", metavar="SHARE|blocks|FILE",
              help="What is held out to choose terms by, as data.validation of a recipe.  [default: 0.3 of the rows]")
@click.option("--cells", type=click.IntRange(1, 128), default=8, show_default=True,
              help="Cells of the grid of gains and offsets along its longer side.")
@click.option("--smoothing", type=click.FloatRange(0, 1e6), default=0.1, show_default=True,
              help="How strongly neighbouring gains and offsets are held together.")
@click.option("--rounds", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Rounds of curves along rotated colours; 1: one curve per band.")
@click.option("--knots", type=click.IntRange(2, 65536), default=256, show_default=True, help="Knots of each curve.")
@click.option("--latitude-order", type=click.IntRange(1, 8), metavar="N",
              help="Add a polynomial of this order in the sine of latitude to each band, for planets.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the model package.")
@events_option
@cancel_option
@verbose_option
@opens_once
def command(kind, source, target, overrides, neighbourhood, squares, means, validation, cells, smoothing, rounds, knots,
            latitude_order, output, events, verbose) -> None:
    """Fit a model without training, in one or two passes over the rasters, and write it as a package.

    linear: least squares for paired (co-registered) rasters. local: the same for a gain and an offset per band that
    change over the map, against haze or uneven light. moments, transport, histogram: for unpaired rasters, match mean
    and standard deviation, mean and covariance, or the whole distribution.

    \b
    geoi2i fit linear --source landsat.tif --target sentinel2.tif --output models/harmonised
    geoi2i fit local --source aerial.tif --target s2.tif --set data.match_grid=true -o models/evened
    geoi2i fit transport --source junocam/ --target hubble.tif --output models/jupiter
    """
    from ..core.errors import RecipeError
    from ..training.fit import fit, fit_recipe
    from .events import choose

    reporter = choose(events)
    terms = _terms(neighbourhood, squares, means)
    if terms and kind != "linear":
        raise RecipeError(f"--neighbourhood, --squares and --means belong to fit linear: leave them out of fit {kind}.")
    settings = {"linear": {"sizes": terms or None},
                "local": {"cells": cells, "smoothing": smoothing},
                "histogram": {"rounds": rounds, "knots": knots}}.get(kind, {})
    if validation:
        overrides = {**overrides, "data.validation": validation}
    recipe = fit_recipe(kind, output.name, source, target, overrides)
    package, made = fit(kind, recipe, output, latitude_order=latitude_order or 0, **settings)
    if made.table:
        reporter.message("Terms, and their RMSE on rows that were held out, in standard deviations of the target:")
        for name, error in made.table:
            reporter.message(f"  {error:.4f}  {name}")
    reporter.close()
    reporter.done({str(package.folder): f"Wrote the model {package.folder}"})


def _terms(neighbourhood: int | None, squares: bool, means: str | None) -> dict[str, int]:
    """Sizes of a linear filter; empty where no term is named."""
    from pydantic import ValidationError

    from ..core.errors import RecipeError
    from ..core.networks.closed_form import LinearSizes
    from ..core.validation import explain

    sides = means.split(",") if means else []
    if len(sides) > 4 or not all(side.strip().isdigit() for side in sides):
        raise RecipeError(f"--means {means} must be at most four numbers, for example 3,7,15,31.")
    found = {**({"neighbourhood": neighbourhood} if neighbourhood else {}), **({"squares": 1} if squares else {}),
             **{f"mean_{k}": int(side) for k, side in enumerate(sides, 1)}}
    try:
        LinearSizes(bands_in=1, bands_out=1, **found)
    except ValidationError as error:
        raise RecipeError(f"--neighbourhood, --means: {explain(error, LinearSizes)}") from error
    return found
