"""`geoi2i info`: what geoi2i sees of a raster."""

import json
from typing import Any

import click

from .help import grouped
from .options import Bands, limits_options, verbose_option


@click.command(cls=grouped(Input="bands max-pixels allow-remote only-below", Output="json"))
@click.argument("inputs", nargs=-1, required=True, metavar="RASTER...")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Bands to show, counted from 1.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a raster, for programs.")
@verbose_option
@limits_options
def command(inputs: tuple[str, ...], bands, as_json: bool, verbose: bool, limits) -> None:
    """Show what geoi2i sees of a RASTER: grid, CRS, bands, valid pixels, and which models suit it.

    A folder or a glob stands for the rasters in it.

    \b
    geoi2i info scene.tif
    geoi2i info scene.tif --json
    """
    from ..core.errors import Geoi2iError
    from ..core.raster.source import RasterSource
    from .events import current
    from .inputs import expand

    reporter, failed = current(), 0
    paths = [path for path, _ in expand(inputs, reporter.message)]
    for number, path in enumerate(paths):
        try:
            found = _describe(RasterSource.open(path, bands, limits))
        except Geoi2iError as error:
            if len(paths) == 1:
                raise
            reporter.message(f"Error: {error}")
            failed += 1
            continue
        if as_json:
            click.echo(json.dumps(found, allow_nan=False))
        else:
            click.echo(("\n" if number else "") + "\n".join(_lines(found)))
    if failed:
        raise SystemExit(3 if failed < len(paths) else 2)


def _describe(raster) -> dict[str, Any]:
    """What is known of a raster, as JSON."""
    import shapely

    from ..core.grid import parse_crs
    from ..core.models.matching import reasons_against
    from ..core.raster.footprint import footprint, valid_pixels

    grid, crs = raster.grid, parse_crs(raster.grid.crs)
    valid = valid_pixels(raster.decimated(1024))
    corners = [grid.transform * corner for corner in ((0, 0), (grid.width, 0), (0, grid.height),
                                                      (grid.width, grid.height))]
    xs, ys = zip(*corners)
    return {
        "path": raster.path, "height": grid.height, "width": grid.width, "dtype": raster.dtype,
        "crs": crs and crs.name, "authority": ":".join(crs.to_authority() or ()) if crs else "", "wkt": grid.crs,
        "unit": crs.axis_info[0].unit_name if crs and crs.axis_info else "pixel", "body": grid.body,
        "latitude": grid.latitude, "longitude": grid.longitude, "geotransform": grid.transform.to_gdal(),
        "pixel_size_m": grid.pixel_size_m, "bounds": [min(xs), min(ys), max(xs), max(ys)],
        "bands": [{"number": number, "name": band.name, "unit": band.unit, "scale": band.scale, "offset": band.offset,
                   "nodata": None if band.nodata is None else repr(band.nodata), "colour": band.colour}
                  for number, band in zip(raster.indexes, raster.bands)],
        "validity": " and ".join(raster.mask_kinds) or "none", "valid_share": float(valid.mean()),
        "footprint": json.loads(shapely.to_geojson(footprint(valid, grid))) if valid.any() else None,
        "models": reasons_against(raster)}


def _lines(found: dict[str, Any]) -> list[str]:
    """The same for a person."""
    transform, bounds = found["geotransform"], found["bounds"]
    ground = f", {found['pixel_size_m']:.6g} m on the ground" if found["pixel_size_m"] else ""
    angles = f"; {found['latitude']} latitude, longitude {found['longitude']}" if found["latitude"] else ""
    polygon = found["footprint"]
    parts = {"Polygon": 1}.get(polygon["type"], len(polygon.get("coordinates", ()))) if polygon else 0
    column = max(map(len, found["models"]), default=0)
    return [
        f"raster    {found['path']}: {found['height']} x {found['width']} pixels, {len(found['bands'])} bands, "
        f"{found['dtype']}",
        f"CRS       {found['crs'] or 'none'}{' (' + found['authority'] + ')' if found['authority'] else ''}{angles}",
        f"body      {found['body'] or 'unknown'}",
        f"pixels    {abs(transform[1]):.9g} x {abs(transform[5]):.9g} {found['unit']}{ground}"
        f"{', rotated' if transform[2] or transform[4] else ''}",
        f"bounds    {', '.join(f'{value:.9g}' for value in bounds)}",
        *(f"band {band['number']:<4} {_band(band)}" for band in found["bands"]),
        f"nodata    {found['validity']}; {100 * found['valid_share']:.3g} % of the pixels are valid, in {parts} "
        f"polygon{'' if parts == 1 else 's'}",
        *(f"{'models' if not k else '':<9} {name:<{column}}  {'; '.join(why) or 'suits'}"
          for k, (name, why) in enumerate(found["models"].items()))]


def _band(band: dict[str, Any]) -> str:
    unit = f" [{band['unit']}]" if band["unit"] else ""
    scale = f", stored x {band['scale']:g} + {band['offset']:g}" if (band["scale"], band["offset"]) != (1, 0) else ""
    nodata = f", nodata {band['nodata']}" if band["nodata"] is not None else ""
    colour = f", {band['colour']}" if band["colour"] not in (None, "undefined") else ""
    return f"{band['name'] or 'without name'}{unit}{colour}{scale}{nodata}"
