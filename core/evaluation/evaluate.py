"""What a translation is worth: a prediction against a reference, its source, a set of targets, or PAN and MS.

    rasters -> one grid -> patches -> measures -> Evaluation -> JSON, CSV, report
"""

from collections.abc import Callable, Sequence
from functools import partial

from ..errors import Cancelled, Geoi2iError, RasterError
from ..metrics.catalogue import METRICS, Kind
from ..raster.source import RasterSource
from ..reproject.polygons import Polygons
from .comparing import Comparing, Message
from .options import EvaluationOptions
from .results import Against, Comparison, Evaluation
from .setup import images_of

_USUAL = EvaluationOptions()


def evaluate(prediction: str, *, reference: str | None = None, source: str | None = None,
             targets: Sequence[str] = (), pan: str | None = None, uncertainty: str | None = None,
             bands: tuple[int, ...] | None = None, reference_bands: tuple[int, ...] | None = None,
             cutline: Polygons | None = None, options: EvaluationOptions = _USUAL,
             progress: Callable[[int, int, str], None] | None = None,
             message: Message = lambda text: None) -> Evaluation:
    """Measures a translated raster.

    Args:
        prediction: the translated raster.
        reference: what it should be, pixel by pixel.
        source: what it was made of; with `pan` the multispectral image.
        targets: rasters of the sensor that it imitates, wherever they are.
        pan: the panchromatic image.
        uncertainty: standard deviations of the prediction, band by band, as `geoi2i run --uncertainty` writes them.
        bands: 1-based bands of the prediction; reference_bands: those of the reference, the source and the targets
            that they are compared with; None: by name, or in order.
        cutline: polygons, see `read_polygons`; pixels whose centre is outside do not count, those of targets excepted.
            The range of values is that of whole rasters all the same.
        progress: called with rows done, rows in all and the kind of comparison under way; raise from it to stop.

    Raises:
        RasterError: where nothing can be measured. What fails beside others is said in `Comparison.failure`, a
            single metric without value in `Score.note`.
    """
    if pan and not source:
        raise RasterError("--pan judges a pansharpened image by PAN and the multispectral image: give the latter with "
                          "--source.")
    if uncertainty and not reference:
        raise RasterError("--uncertainty is judged by the errors against a reference: give --reference too.")
    trusted = options.limits
    mine = RasterSource.open(prediction, bands, trusted)
    others = {"reference": reference, "source": source, "pan": pan}
    opened = {kind: RasterSource.open(path, limits=trusted) for kind, path in others.items() if path}
    aims = [RasterSource.open(path, limits=trusted) for path in targets]
    images, statement = images_of(mine, opened, aims, options.value_range, options.ratio, options.rgb, options.sensor,
                                  options.weights)
    run = Comparing(mine, images, options, reference_bands, None, message, cutline)
    jobs: list[tuple[Against, tuple[str, ...], Callable[[], Comparison]]] = []
    if reference:
        sigma = RasterSource.open(uncertainty, limits=trusted) if uncertainty else None
        jobs.append(("reference", (reference,), lambda: run.against_reference(opened["reference"], sigma)))
    if source:
        jobs.append(("source", (source,), lambda: run.against_source(opened["source"])))
    if targets:
        jobs.append(("targets", tuple(targets), lambda: run.against_targets(aims)))
    if pan and source:
        jobs.append(("pan", (source, pan), lambda: run.against_pan(opened["source"], opened["pan"])))
    jobs.append(("prediction", (), lambda: run.by_itself(opened.get("source"))))
    _check_wanted(options, {kind for kind, _, _ in jobs}, bool(uncertainty))
    found = []
    for kind, against, job in jobs:
        run.progress = progress and partial(_told, progress, kind)
        try:
            found.append(job())
        except Cancelled:
            raise
        except Geoi2iError as error:
            found.append(Comparison(kind, against, failure=str(error)))
    if all(c.failure for c in found[:-1]) and (len(found) > 1 or found[0].failure):
        first, *more = dict.fromkeys(c.failure for c in found if c.failure)
        raise RasterError(first, more)
    for comparison in found:
        if comparison.failure:
            message(comparison.failure)
    return Evaluation(mine, images, statement, tuple(c for c in found if c.results or c.failure))


def _told(progress: Callable[[int, int, str], None], kind: str, done: int, total: int) -> None:
    progress(done, total, kind)


_OF_KIND: dict[str, tuple[Kind, ...]] = {"reference": ("paired", "sets"), "source": ("paired", "sets"),
                                         "targets": ("sets",), "pan": ("pan",), "prediction": ("alone",)}
_NEEDS = {"paired": "--reference or --source", "sets": "--reference, --source or --target",
          "pan": "--source and --pan", "uncertainty": "--reference and --uncertainty"}


def _check_wanted(options: EvaluationOptions, kinds: set[str], uncertain: bool) -> None:
    """A metric that is named and has nothing to compare is a mistake."""
    there = {kind for name in kinds for kind in _OF_KIND[name]} | ({"uncertainty"} if uncertain else set())
    for name in options.metrics:
        kind = METRICS[name].kind if name in METRICS else "pan"
        if kind not in there:
            raise RasterError(f"Metric {name} has nothing to compare: give {_NEEDS[kind]}.")
    if not options.metrics and kinds == {"prediction"} and options.seams is None:
        raise RasterError("There is nothing to compare with: add --reference, --source, --target or --pan, or name "
                          "a --metric that needs none, or --seams.")
