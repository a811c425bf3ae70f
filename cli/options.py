"""Options that several commands share, and the types their values have."""

import functools
import math
import os
from collections.abc import Callable

import click


class Bands(click.ParamType):
    """`3,2,1` -> (3, 2, 1)."""

    name = "bands"

    def convert(self, value, parameter, context):
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of band numbers; write for example 3,2,1.", parameter, context)


class Bounds(click.ParamType):
    """`xmin,ymin,xmax,ymax` -> four floats."""

    name = "xmin,ymin,xmax,ymax"

    def convert(self, value, parameter, context):
        if isinstance(value, tuple):
            return value
        numbers = _numbers(value)
        # xmin may be more than xmax: such bounds cross the 180th meridian, where the CRS has longitudes.
        if len(numbers) != 4 or numbers[0] == numbers[2] or not numbers[1] < numbers[3]:
            self.fail(f"{value!r} is not a rectangle; write xmin,ymin,xmax,ymax.",
                      parameter, context)
        return numbers


class Resolution(click.ParamType):
    """`10` or `10,20` -> (width, height) of a pixel."""

    name = "R[,R]"

    def convert(self, value, parameter, context):
        if isinstance(value, tuple):
            return value
        numbers = _numbers(value)
        if len(numbers) not in (1, 2):
            self.fail(f"{value!r} is not a resolution; write a number, or two for width and height of a pixel.",
                      parameter, context)
        return numbers * 2 if len(numbers) == 1 else numbers


class Numbers(click.ParamType):
    """`0,255` -> (0.0, 255.0)."""

    name = "numbers"

    def __init__(self, count: int):
        self.count = count

    def convert(self, value, parameter, context):
        if isinstance(value, tuple):
            return value
        numbers = _numbers(value)
        if len(numbers) != self.count:
            self.fail(f"{value!r} is not {self.count} numbers; write them with commas between.", parameter, context)
        return numbers


def _numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list; none where one of them is not a number, or not a finite one."""
    try:
        numbers = tuple(float(part) for part in text.replace(" ", ",").split(",") if part)
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def _watch(context, parameter, value) -> None:
    from .cancel import watch_stdin

    if value:
        watch_stdin()


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Add the traceback to an error.")
events_option = click.option("--events", type=click.Choice(["json"]),
                             help="Write one JSON object a line to stdout, for programs.")
device_option = click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]",
                             help="Where to compute.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
cutline_option = click.option("--cutline", metavar="FILE",
                              help="Only pixels whose centre is inside these polygons: GeoJSON, GeoPackage, Shapefile, "
                                   "FlatGeobuf.")
cancel_option = click.option("--cancel-on-stdin", is_flag=True, expose_value=False, callback=_watch,
                             help="Stop when standard input says cancel or ends, for programs.")


def _creation(_, __, given: tuple[str, ...]):
    from ..core.output.creation import CreationOptions

    return CreationOptions.parse(given)


creation_option = click.option("--creation-option", "creation", multiple=True, metavar="NAME=VALUE",
                               callback=_creation, help="Creation option of GDAL's GeoTIFF, for example "
                                                        "COMPRESS=DEFLATE. May be repeated.")


def polygons_of(cutline: str | None):
    """What `--cutline` names; None where it is not given."""
    if cutline is None:
        return None
    from ..core.reproject.polygons import read_polygons

    return read_polygons(cutline)


def opens_once(command: Callable) -> Callable:
    """A command that inspects and opens each raster once, however often it asks for it."""

    @functools.wraps(command)
    def sharing_files(*arguments, **options):
        from ..core.raster.sharing import sharing

        with sharing():
            return command(*arguments, **options)

    return sharing_files


def limits_options(command: Callable) -> Callable:
    """Adds how far inputs are trusted; the command gets that as `limits`.

    In a batch of a folder, VRTs may name what is in it, and what else the user named.
    """

    @functools.wraps(command)
    def with_limits(*arguments, max_pixels, allow_remote, only_below, **more):
        from ..core.raster.limits import STANDARD, Limits

        named = *more.get("inputs", more.get("predictions")), *more.get("more", ())
        folder = named if any(map(os.path.isdir, named)) else ()
        limits = Limits(max_pixels or STANDARD.max_pixels, allow_remote, only_below or folder)
        return opens_once(command)(*arguments, limits=limits, **more)

    with_limits = click.option("--only-below", type=click.Path(exists=True), multiple=True, metavar="DIR",
                               help="Let a VRT name only what is in this folder. May be repeated.  [default: for a "
                                    "folder of inputs, what is in it; for single files, any raster]")(with_limits)
    with_limits = click.option("--allow-remote", is_flag=True,
                               help="Let a VRT name files on servers; otherwise it is refused.")(with_limits)
    return click.option("--max-pixels", type=click.IntRange(min=1), metavar="N",
                        help="Refuse inputs of more pixels (height x width).  [default: 100000000000]")(with_limits)


def set_option(text: str) -> Callable:
    """--set KEY=VALUE, repeated: `overrides`, a dictionary of texts."""

    def pairs(_, __, given: tuple[str, ...]) -> dict[str, str]:
        from ..core.errors import RecipeError

        found = {}
        for each in given:
            key, equals, value = each.partition("=")
            if not equals or not key:
                raise RecipeError(f"--set {each} is not of the form KEY=VALUE, for example optimiser.lr=1e-4.")
            found[key.strip()] = value.strip()
        return found

    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", callback=pairs, help=text)
