"""The comparisons of one evaluation: a prediction against a reference, its source, targets, or PAN and MS."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import RasterError
from ..metrics import Accumulator, Measure, Score
from ..metrics.agreement import BandAgreement, agreements, band_agreement, clipped, edge_displacement
from ..metrics.catalogue import METRICS, Images, Kind, better, of_bands, of_means
from ..metrics.pansharpening import GAINS, qnr
from ..metrics.seams import seam_score
from ..metrics.spectrum import above, power_spectra
from ..raster.rows import SeekableRaster
from ..raster.source import RasterSource
from ..reproject.polygons import Polygons
from ..reproject.warped_raster import WarpedSource
from ..reproject.warping import Warping
from .compare import Pair, Progress, averaged, measure_alone, measure_pair, measure_seams, on_one_grid
from .curves import calibration_of, curves_of, drawn_measures
from .options import EvaluationOptions, choose_metrics
from .pan_views import measure_pan
from .results import Comparison, Curves, Result, band_names
from .setup import has_scale, limits, paired_bands, pixel_factor, whole_ratio
from .thumbnail import Thumbnail

STRUCTURE, EDGES = ("psnr", "ssim", "scc_dlpan", "mid_energy", "high_energy"), ("scc_dlpan", "scc_local")
"""What is compared with the source when no metric is named; and with one that measures something else."""

Message = Callable[[str], None]


@dataclass
class Comparing:
    """One evaluation under way."""

    mine: SeekableRaster
    images: Images
    options: EvaluationOptions
    other_bands: tuple[int, ...] | None
    progress: Progress | None
    message: Message
    cutline: Polygons | None = None
    """Pixels whose centre is outside do not count, those of targets excepted."""

    def against_reference(self, other: RasterSource, sigma: SeekableRaster | None) -> Comparison:
        other = self._paired(other)
        pair = on_one_grid(self.mine, other, self.options.resample_to, self.options.resampling)
        extra = {}
        if sigma:
            if not sigma.grid.matches(self.mine.grid) or len(sigma.bands) != len(self.mine.bands):
                raise RasterError(f"{sigma.path} must have the grid and the bands of the prediction: give the "
                                  "standard deviations that were written with it.")
            if isinstance(pair.prediction, WarpedSource):
                raise RasterError("Standard deviations cannot be resampled with their prediction: take its grid with "
                                  "--resample-to prediction.")
            extra = self._chosen(("uncertainty",))
        return self._paired_comparison("reference", pair, self._chosen(("paired", "sets")), extra, sigma)

    def against_source(self, other: RasterSource) -> Comparison:
        grey = ""
        try:
            other = self._paired(other)
        except RasterError:
            if self.other_bands:
                raise
            grey = f"; of {len(self.mine.bands)} and {len(other.bands)} bands, which differ, the means"
        pair = self._on_source_grid(other)
        metrics = self._chosen(("paired", "sets"), EDGES if grey else STRUCTURE)
        if isinstance(pair.prediction, WarpedSource):  # what its finest pixels hold is not there any more
            metrics = {k: v for k, v in metrics.items() if not k.endswith("_energy")}
        extra = {} if self.options.metrics else {"edge_displacement": edge_displacement()}
        if grey:
            metrics = {k: m if isinstance(m, Score) else of_means(m) for k, m in metrics.items()}
            pair = replace(pair, statement=pair.statement + grey)
        return self._paired_comparison("source", pair, metrics, extra, None, bool(grey))

    def _on_source_grid(self, other: SeekableRaster) -> Pair:
        """A finer prediction is seen with the source's pixels, as means over them."""
        one, two = self.mine.grid, other.grid
        if self.images.ratio > 1.0001 and one.crs == two.crs:
            return averaged(self.mine, other)
        return on_one_grid(self.mine, other, self.options.resample_to, self.options.resampling, "source")

    def against_targets(self, others: list[RasterSource]) -> Comparison:
        others = [self._paired(other) for other in others]
        metrics, shared = self._chosen(("sets",)), drawn_measures(self.images)
        measures = [*(m for m in metrics.values() if isinstance(m, Measure)), *shared]
        mine = measure_alone(self.mine, measures, self.progress, self.cutline)
        theirs: list[Accumulator] = []
        for other in others:
            found = measure_alone(other, measures, self.progress)
            theirs = [one.merge(more) for one, more in zip(theirs, found)] or found
        for one, its in zip(mine, theirs):
            _set_against(one, its)
        factors = [pixel_factor(self.mine, other) for other in others]
        if any(factor > 1.1 for factor in factors):
            self.message(f"Pixels of the targets and of {self.mine.path} differ in size by up to {max(factors):.3g}: "
                        "frequencies are those of each one's own pixels.")
        return Comparison("targets", tuple(o.path for o in others), _within(self.cutline, "each raster's own pixels"),
                          tuple(_results(metrics, mine)), curves=curves_of(mine[-2:], "target"))

    def against_pan(self, ms: RasterSource, pan: SeekableRaster) -> Comparison:
        ms = self._paired(ms)
        ratio, sensor = whole_ratio(self.mine, ms, pan), self.images.sensor
        if sensor and len(GAINS[sensor]) != len(ms.bands):
            raise RasterError(f"Sensor {sensor} has {len(GAINS[sensor])} bands and {ms.path} has {len(ms.bands)}: name "
                              "another, or leave --sensor out for a gain of 0.3 in all.")
        images = replace(self.images, ratio=ratio)
        wanted = set(self.options.metrics)
        parts = {"qnr": {"d_lambda", "d_s"}, "hqnr": {"d_lambda_khan", "d_s"}}
        asked = wanted | {part for name in wanted & set(parts) for part in parts[name]}
        metrics = {name: METRICS[name].make(images) for name in ("d_lambda", "d_s", "d_lambda_khan")
                   if not wanted or name in asked}
        results = list(_results(metrics, measure_pan(self.mine, ms, pan, metrics, ratio, self.progress, self.cutline)))
        value = {r.metric: r.score for r in results}
        for name, spectral in (("qnr", "d_lambda"), ("hqnr", "d_lambda_khan")):
            if spectral in value and "d_s" in value and (not wanted or name in wanted):
                one = value[spectral]
                results.append(Result(name, replace(one, name=name.upper(), value=qnr(one.value, value["d_s"].value)),
                                      better(name)))
        statement = _within(self.cutline, f"the pixels of PAN, {ratio} times as fine as MS")
        return Comparison("pan", (ms.path, pan.path), statement, tuple(results))

    def by_itself(self, source: SeekableRaster | None) -> Comparison:
        metrics = self._chosen(("alone",))
        if not self.options.metrics:
            ends = limits(self.mine)
            if ends:
                metrics["clipped"] = clipped(*ends)
            if source and self.images.ratio > 1.0001:
                metrics["above_nyquist"] = above(0.5 / self.images.ratio, power_spectra())
        measures = [m for m in metrics.values() if isinstance(m, Measure)]
        results = list(_results(metrics, measure_alone(self.mine, measures, self.progress, self.cutline) if measures
                                else []))
        sharpness = metrics.get("above_nyquist")
        if source and isinstance(sharpness, Measure) and source.grid.crs == self.mine.grid.crs:
            smooth = WarpedSource(source, self.mine.grid, Warping("cubic"))
            known = measure_alone(smooth, [sharpness], self.progress, self.cutline)[0].compute()
            results.append(Result("above_nyquist_of_cubic", replace(known, name="the same of the source, cubic"),
                                  better("above_nyquist_of_cubic")))
        if self.options.seams is not None:
            found = measure_seams(self.mine, self.options.seams or None, self.progress, self.cutline)
            results += [Result(f"seams_{axis}", seam_score(axis, lattice), better(f"seams_{axis}"))
                        for axis, lattice in found.items()]
        return Comparison("prediction", (), _within(self.cutline, "its own pixels"), tuple(results))

    def _paired(self, other: RasterSource) -> RasterSource:
        other, text = paired_bands(self.mine, other, self.other_bands)
        if text:
            self.message(text)
        if other.dtype != self.mine.dtype and not has_scale(other) and not has_scale(self.mine):
            self.message(f"{self.mine.path} holds {self.mine.dtype} and {other.path} {other.dtype}: the numbers are "
                        "compared as they are, for neither has a scale.")
        return other

    def _chosen(self, kinds: tuple[Kind, ...], usual: Sequence[str] | None = None) -> dict[str, Measure | Score]:
        return choose_metrics(self.options, self.images, kinds, usual)

    def _paired_comparison(self, kind, pair: Pair, metrics: dict, extra: dict, sigma=None, grey: bool = False
                           ) -> Comparison:
        mine = range(len(self.mine.bands))
        drawn = [] if grey else [*drawn_measures(self.images), band_agreement()]
        if sigma:
            metrics = {k: m if isinstance(m, Score) else of_bands(m, mine, mine) for k, m in metrics.items()}
            drawn = [of_bands(m, mine, mine) for m in drawn]
        metrics = metrics | extra
        thumbnail = Thumbnail(pair.windows[0].height, pair.windows[0].width, len(self.mine.bands))
        measures = [*(m for m in metrics.values() if isinstance(m, Measure)), *drawn]
        found = measure_pair(pair, measures, sigma, thumbnail, self.progress, self.cutline)
        statement = _within(self.cutline, pair.statement)
        results = tuple(_results(metrics, found))
        if not grey and not found[-1].totals.get("count"):
            return Comparison(kind, (pair.reference.path,), statement, results, thumbnail=thumbnail)
        curves = Curves()
        rows: tuple[tuple[str, BandAgreement], ...] = ()
        if not grey:
            curves = curves_of(found[-3:-1], kind)
            rows = tuple(zip(band_names(self.mine), agreements(found[-1].totals)))
        judged = next((one for one in found if one.measure is metrics.get("ece")), None)
        if judged:
            curves = replace(curves, calibration=calibration_of(judged))
        return Comparison(kind, (pair.reference.path,), statement, results, rows, curves, thumbnail)


def _results(metrics: Mapping[str, Measure | Score], found: Sequence[Accumulator]) -> Iterator[Result]:
    """Scores in the order of the metrics; `found` begins with those that were measured."""
    measured = iter(found)
    for name, metric in metrics.items():
        score = metric if isinstance(metric, Score) else next(measured).compute()
        yield Result(name, score, better(name))


def _within(cutline: Polygons | None, statement: str) -> str:
    """What is compared, as a person reads it."""
    return f"{statement}, inside the polygons of {cutline.path}" if cutline else statement


def _set_against(mine: Accumulator, theirs: Accumulator) -> None:
    """Lets what was found in other rasters be the reference; both were seen alone.

    Measures of sets keep what they find in each image under keys that begin with its name.
    """
    own = {k: v for k, v in mine.totals.items() if not k.startswith("reference")}
    mine.totals = own | {k: v for k, v in theirs.totals.items() if k.startswith("reference")} | {
        "count": min(mine.totals["count"], theirs.totals["count"])}
    mine.excluded += theirs.excluded
