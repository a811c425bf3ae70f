"""`geoi2i evaluate`: say what translated rasters are worth."""

from pathlib import Path

import click

from .options import (
    Bands,
    Numbers,
    cancel_option,
    events_option,
    overwrite_option,
    verbose_option,
)


@click.command()
@click.option("-p", "--prediction", "predictions", multiple=True, metavar="P",
              help="Translated raster, folder, glob, or - for a list on stdin. May be repeated.")
@click.argument("more", nargs=-1, metavar="[P]...")
@click.option("-r", "--reference", "references", multiple=True, metavar="R",
              help="What it should be. For several predictions a folder with the same names, or one for each.")
@click.option("-s", "--source", "sources", multiple=True, metavar="S",
              help="What it was made of; with --pan the multispectral image. Several as with --reference.")
@click.option("-t", "--target", "targets", multiple=True, metavar="T",
              help="Rasters of the sensor it imitates, of any place; a folder, a glob. May be repeated.")
@click.option("--pan", "pans", multiple=True, metavar="PAN",
              help="Panchromatic image: judges a pansharpened prediction without reference. Several as above.")
@click.option("--uncertainty", "sigmas", multiple=True, metavar="U",
              help="Standard deviations of the prediction, as geoi2i run writes them. Several as above.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Metric to compute; may be repeated. --list names them.  [default: the usual ones]")
@click.option("--report", metavar="DIR", help="Write a page to look at: DIR/index.html, which needs no network.")
@click.option("--json", "json_file", metavar="FILE", help="Write all that was found as JSON.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the scores as a table, one a line.")
@click.option("--onto", type=click.Choice(["reference", "prediction"]),
              help="Whose pixels to take where they do not coincide.  [default: such rasters are refused]")
@click.option("--resampling", type=click.Choice(["nearest", "bilinear", "cubic", "lanczos", "average"]),
              default="bilinear", show_default=True, help="How --onto resamples.")
@click.option("--range", "value_range", type=Numbers(2), metavar="LOW,HIGH",
              help="Values shown as black and as full, in the data's units: PSNR, SSIM, histograms.  "
                   "[default: 0,255 for 8 bits, else percentiles of the reference]")
@click.option("--ratio", type=float, metavar="R",
              help="Pixel size of the source over the prediction's, for ERGAS.  [default: measured]")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Bands of the prediction, counted from 1.  [default: all]")
@click.option("--reference-bands", type=Bands(), metavar="3,2,1",
              help="Bands that they are compared with.  [default: those of the same names, or in order]")
@click.option("--rgb", type=Bands(), metavar="3,2,1", help="Which of the bands are red, green and blue.")
@click.option("--sensor", metavar="NAME", help="Sensor whose blur HQNR takes: QB, IKONOS, GeoEye1, WV2, WV3, WV4.")
@click.option("--weights", metavar="DIR", type=click.Path(path_type=Path), envvar="GEOI2I_WEIGHTS",
              help="Folder of network weights, for LPIPS, DISTS, FID and NIQE; nothing is downloaded.")
@click.option("--seams", is_flag=True, help="Look for window borders in the prediction, of any step.")
@click.option("--seam-step", type=click.IntRange(min=2), metavar="PX",
              help="The same where the step from window to window is known, which makes it surer.")
@click.option("--list", "listed", is_flag=True, help="List the metrics and stop.")
@overwrite_option
@events_option
@cancel_option
@verbose_option
def command(predictions, more, references, sources, targets, pans, sigmas, report, json_file, csv_file, listed,
            overwrite, events, verbose, bands, reference_bands, seams, seam_step, **chosen) -> None:
    """Measure translated rasters: against a reference, their source, other rasters of the sensor, or PAN and MS.

    \b
    geoi2i evaluate --prediction out.tif --reference truth.tif --report report/
    geoi2i evaluate --prediction out.tif --source scene.tif --target hubble/ --json out.json
    geoi2i evaluate --prediction fused.tif --source ms.tif --pan pan.tif --sensor WV3
    geoi2i evaluate --prediction out.tif --seams
    """
    if listed:
        return _list()
    from ..core.device import reused_memory
    from ..core.errors import RasterError
    from ..core.evaluation import EvaluationOptions, evaluate
    from ..core.findings import save_csv, save_json, table
    from ..core.sink import check_output
    from .batch import run_batch
    from .events import choose
    from .inputs import expand

    reporter = choose(events)
    found = expand((*predictions, *more))
    if not found:
        raise click.UsageError("No prediction is given: name a raster, for example geoi2i evaluate --prediction "
                               "out.tif --reference truth.tif.")
    options = EvaluationOptions(**chosen, seams=seam_step or (0 if seams else None))
    partners = [_partners(found, given, name) for given, name in (
        (references, "--reference"), (sources, "--source"), (pans, "--pan"), (sigmas, "--uncertainty"))]
    aims = tuple(path for path, _ in expand(targets))
    for path in filter(None, (json_file, csv_file)):
        check_output(Path(path), overwrite)
    places = _report_places(found, report)
    for place in filter(None, places):
        if place.exists() and not overwrite:
            raise RasterError(f"{place} exists already: give --overwrite to replace it, or another --report.")
    evaluations, finished = [], {}
    by_path = {path: (*others, place) for (path, _), *others, place in zip(found, *partners, places)}

    def work(path: str, _) -> None:
        reference, source, pan, sigma, place = by_path[path]
        reporter.restart()
        with reused_memory():
            evaluation = evaluate(
                path, reference=reference, source=source, targets=aims, pan=pan, uncertainty=sigma, bands=bands,
                reference_bands=reference_bands, options=options, notice=reporter.message,
                progress=lambda done, total, kind: reporter.progress(done, total,
                                                                     f"measuring {Path(path).name}, {kind}"))
        reporter.close()
        evaluations.append(evaluation)
        reporter.result(table(evaluation))
        if place:
            from ..core.report import save_report

            finished[str(save_report(evaluation, place))] = f"Wrote {place}"

    code = 0
    if len(found) == 1:
        work(found[0][0], None)
    else:
        code = run_batch([(path, place or Path(path)) for (path, _), place in zip(found, places)], work, reporter,
                         finished)
    if not evaluations:
        raise SystemExit(code)
    for file, save in ((json_file, save_json), (csv_file, save_csv)):
        if file:
            save(evaluations, Path(file))
            finished[file] = f"Wrote {file}"
    if len(found) > 1 and report:
        from ..core.report import save_index

        index = Path(report) / "index.html"
        save_index(evaluations, [by_path[e.prediction.path][-1] for e in evaluations], index)
        finished[str(index)] = f"Wrote {index}"
    failures = [c.failure for e in evaluations for c in e.comparisons if c.failure]
    if len(found) == 1 and failures:
        for text in finished.values():
            reporter.message(text)
        raise RasterError(" ".join(failures))
    reporter.done(finished)
    raise SystemExit(code)


def _partners(found: list[tuple[str, str]], given: tuple[str, ...], option: str) -> list[str | None]:
    """What belongs to each prediction: the one, as many in order, or those of the same name in a folder."""
    import os

    from ..core.errors import RasterError
    from .inputs import expand

    if not given:
        return [None] * len(found)
    there = expand(given)
    folder = len(given) == 1 and os.path.isdir(given[0])
    if not folder and len(there) == 1:
        return [there[0][0]] * len(found)
    if not folder and len(there) == len(found):
        return [path for path, _ in there]
    by_name = {str(Path(relative).with_suffix("")): path for path, relative in there}
    lacking = [path for path, relative in found if str(Path(relative).with_suffix("")) not in by_name]
    if lacking:
        raise RasterError(f"{option} has nothing for {lacking[0]}: it holds {len(there)} rasters for {len(found)} "
                          "predictions; give one for all, one for each in the same order, or a folder where they have "
                          "the predictions' names.")
    return [by_name[str(Path(relative).with_suffix(""))] for _, relative in found]


def _report_places(found: list[tuple[str, str]], report: str | None) -> list[Path | None]:
    if report is None:
        return [None] * len(found)
    if len(found) == 1:
        return [Path(report) / "index.html"]
    return [Path(report) / Path(relative).with_suffix("") / "index.html" for _, relative in found]


def _list() -> None:
    from ..core.metrics.catalogue import METRICS, definition

    looks = {"paired": "a reference or the source", "sets": "a reference, the source or targets",
             "alone": "the prediction alone", "pan": "the source (MS) and PAN",
             "uncertainty": "a reference, with --uncertainty"}
    for kind, text in looks.items():
        click.echo(f"Compared with {text}:" if kind != "alone" else f"Of {text}:")
        for name, metric in METRICS.items():
            if metric.kind == kind:
                first = definition(name).split("\n\n")[0].replace("\n", " ")
                click.echo(f"  {name:<15}{'* ' if metric.usual else '  '}{first}")
        click.echo()
    click.echo("* computed when no --metric is named. QNR and HQNR (qnr, hqnr) are made of the distortions.")
