"""`geoi2i evaluate`: say what translated rasters are worth."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from ..core.errors import RasterError
from .help import grouped
from .options import (
    Bands,
    Numbers,
    cancel_option,
    cutline_option,
    device_option,
    events_option,
    limits_options,
    overwrite_option,
    polygons_of,
    verbose_option,
)


@click.command(cls=grouped(
    Input="prediction reference source target pan uncertainty bands reference-bands cutline max-pixels allow-remote "
          "only-below",
    Models="beside device",
    Metric="metric list range ratio rgb sensor weights seams seam-step resample-to resampling",
    Output="report json csv overwrite"))
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
@click.option("--beside", "models", multiple=True, metavar="MODEL",
              help="Judge what a model makes of the one --source too, beside the others; a name, a folder or identity. "
                   "May be repeated.")
@device_option
@click.option("--report", metavar="DIR",
              help="Write a page that needs no network: DIR/index.html, or a file named .html.")
@click.option("--json", "json_file", metavar="FILE", help="Write all that was found as JSON.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the scores as a table, one a line.")
@click.option("--resample-to", type=click.Choice(["reference", "prediction"]),
              help="Whose pixels to take where they do not coincide.  [default: such rasters are refused]")
@click.option("--resampling", type=click.Choice(["nearest", "bilinear", "cubic", "lanczos", "average"]),
              default="bilinear", show_default=True, help="How --resample-to resamples.")
@click.option("--range", "value_range", type=Numbers(2), metavar="LOW,HIGH",
              help="Values shown as black and as full, in the data's units: PSNR, SSIM, histograms.  "
                   "[default: 0,255 for 8 bits, else percentiles of the reference]")
@click.option("--ratio", type=float, metavar="R",
              help="Pixel size of the source over the prediction's, for ERGAS.  [default: measured]")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Bands of the prediction, counted from 1.  [default: all]")
@click.option("--reference-bands", type=Bands(), metavar="3,2,1",
              help="Bands that they are compared with.  [default: those of the same names, or in order]")
@cutline_option
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
@limits_options
def command(predictions, more, references, sources, targets, pans, sigmas, models, device, report, json_file, csv_file,
            listed, overwrite, events, verbose, bands, reference_bands, cutline, seams, seam_step, **chosen) -> None:
    """Measure translated rasters: against a reference, their source, other rasters of the sensor, or PAN and MS.

    \b
    geoi2i evaluate --prediction out.tif --reference truth.tif --report report/
    geoi2i evaluate --prediction out.tif --source scene.tif --target hubble/ --json out.json
    geoi2i evaluate --prediction fused.tif --source ms.tif --pan pan.tif --sensor WV3
    geoi2i evaluate --prediction out.tif --seams
    geoi2i evaluate --source scene.tif --reference truth.tif --beside first --beside runs/second/model --report report/
    """
    if listed:
        return _list()
    from .beside import planned
    from .early import look_ahead
    from .events import choose
    from .inputs import expand

    reporter = choose(events)
    found = expand((*predictions, *more), reporter.message)
    if models and len(sources) != 1:
        raise click.UsageError(f"--beside translates one --source, and {len(sources)} are given: name one.")
    if not found and not models:
        raise click.UsageError("No prediction is given: name a raster, for example geoi2i evaluate --prediction "
                               "out.tif --reference truth.tif.")
    polygons = polygons_of(cutline)
    look_ahead(found, bands, chosen["limits"])
    from ..core.evaluation.evaluate import EvaluationOptions

    options = EvaluationOptions(**chosen, seams=seam_step or (0 if seams else None))
    with tempfile.TemporaryDirectory(prefix="geoi2i-beside-") as folder:
        made = planned(models, sources[0], folder) if models else {}
        found += [(path, os.path.basename(path)) for path in made]
        partners = [_partners(found, given, name, reporter.message) for given, name in (
            (references, "--reference"), (sources, "--source"), (pans, "--pan"), (sigmas, "--uncertainty"))]
        names = "reference", "source", "pan", "uncertainty"
        job = _Job(options, reporter, targets=tuple(path for path, _ in expand(targets, reporter.message)),
                   bands={"bands": bands, "reference_bands": reference_bands, "cutline": polygons},
                   partners={path: dict(zip(names, others)) for (path, _), *others in zip(found, *partners)},
                   pages={path: page for (path, _), page in zip(found, _pages(found, report))}, made=made,
                   device=device)
        _judge(job, [path for path, _ in found], {"json": json_file, "csv": csv_file}, overwrite,
               report and Path(report) / "index.html")


def _judge(job: "_Job", found: list[str], files: dict[str, str | None], overwrite: bool, index: Path | None) -> None:
    """Judges all predictions, and ends the command as they did."""
    from .batch import run_batch

    reporter = job.reporter
    job.check(files, overwrite)
    if len(found) == 1:
        job.evaluate(found[0])
        job.save(files, None)
        if job.failures():
            for text in job.finished.values():
                reporter.message(text)
            raise _failure(found[0], job.failures())
        reporter.done(job.finished)
        return
    pairs = [(path, job.pages[path] or Path(path)) for path in found]
    code = run_batch(pairs, job.evaluate, reporter, job.finished, lambda: job.save(files, index))
    raise SystemExit(3 if job.failures() and code == 0 else code)


class _Job:
    """One set of options, used for one prediction after the other."""

    def __init__(self, options, reporter, targets, bands, partners, pages, made, device):
        self.options, self.reporter, self.targets, self.bands = options, reporter, targets, bands
        self.made, self.device = made, device
        self.partners: dict[str, dict[str, str | None]] = partners
        self.pages: dict[str, Path | None] = pages
        self.evaluations, self.finished = [], {}

    def check(self, files: dict[str, str | None], overwrite: bool) -> None:
        """Refuses, before anything is measured, what could not be written at its end."""
        from ..core.output.checks import check_output, same_file

        outputs = [Path(file) for file in files.values() if file]
        for output in outputs:
            check_output(output, overwrite)
        pages = list(filter(None, self.pages.values()))
        for page in pages:
            check_output(page, overwrite, makes_folder=True)
        twice = [path for k, path in enumerate(outputs) if path.absolute() in [p.absolute() for p in outputs[:k]]]
        if twice:
            raise RasterError(f"{twice[0]} is named for two outputs: name two files.")
        inputs = {*self.partners, *self.targets, *(p for given in self.partners.values() for p in given.values() if p)}
        for output in (*outputs, *pages):
            if any(same_file(output, path) for path in inputs):
                raise RasterError(f"The output {output} is one of the rasters: choose another name.")

    def evaluate(self, path: str, _: Path | None = None) -> None:
        from ..core.evaluation.evaluate import evaluate
        from ..core.evaluation.report import save_report
        from ..core.evaluation.results import table
        from .beside import translate

        if path in self.made:
            translate(self.partners[path]["source"], path, self.made[path], self.device, self.reporter)
        self.reporter.restart()
        evaluation = evaluate(
            path, **self.partners[path], **self.bands, targets=self.targets, options=self.options,
            message=self.reporter.warning, progress=lambda done, total, kind: self.reporter.progress(
                done, total, f"measuring {Path(path).name}, {kind}"))
        self.reporter.close()
        self.evaluations.append(evaluation)
        self.reporter.result(table(evaluation))
        page = self.pages[path]
        if page:
            self.finished[str(save_report(evaluation, page))] = f"Wrote {page}"

    def save(self, files: dict[str, str | None], index: Path | None) -> None:
        """Writes what belongs to all evaluations together."""
        from ..core.evaluation.report import save_index
        from ..core.evaluation.results import save_csv, save_json, side_by_side

        if not self.evaluations:
            return
        if len(self.evaluations) > 1:
            self.reporter.result(side_by_side(self.evaluations))
        for kind, save in (("json", save_json), ("csv", save_csv)):
            if files[kind]:
                self.finished[files[kind]] = f"Wrote {save(self.evaluations, Path(files[kind]))}"
        if index:
            save_index(self.evaluations, [self.pages[e.prediction.path] for e in self.evaluations], index)
            self.finished[str(index)] = f"Wrote {index}"

    def failures(self) -> list[str]:
        """Comparisons that could not be made, and metrics that were asked for by name and have no value."""
        failed = [c.failure for e in self.evaluations for c in e.comparisons if c.failure]
        if self.options.metrics:
            failed += [r.score.note for e in self.evaluations for _, r in e.rows()
                       if r.score.note and not r.score.n_valid]
        return list(dict.fromkeys(failed))


def _failure(path: str, reasons: list[str]) -> RasterError:
    """What a command for one prediction ends with."""
    if len(reasons) == 1:
        return RasterError(reasons[0])
    return RasterError(f"{len(reasons)} parts of the evaluation of {path} failed:", reasons,
                       "Choose other rasters or metrics.")


def _partners(found: list[tuple[str, str]], given: tuple[str, ...], option: str,
              message: Callable[[str], None]) -> list[str | None]:
    """What belongs to each prediction: the one, as many in order, or those of the same name in a folder."""
    from ..core.raster.formats import without_ending
    from .inputs import expand

    if not given:
        return [None] * len(found)
    there = expand(given, message)
    folder = len(given) == 1 and os.path.isdir(given[0])
    if not folder and len(there) == 1:
        return [there[0][0]] * len(found)
    if not folder and len(there) == len(found):
        return [path for path, _ in there]
    by_name = {without_ending(relative): path for path, relative in there}
    lacking = [path for path, relative in found if without_ending(relative) not in by_name]
    if lacking:
        raise RasterError(f"{option} has nothing for {lacking[0]}: it holds {len(there)} rasters for {len(found)} "
                          "predictions; give one for all, one for each in the same order, or a folder where they have "
                          "the predictions' names.")
    return [by_name[without_ending(relative)] for _, relative in found]


def _pages(found: list[tuple[str, str]], report: str | None) -> list[Path | None]:
    """The page of each prediction."""
    from ..core.raster.formats import without_ending

    if report is None:
        return [None] * len(found)
    if len(found) == 1:
        return [Path(report) if report.endswith(".html") else Path(report) / "index.html"]
    return [Path(report) / without_ending(relative) / "index.html" for _, relative in found]


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
