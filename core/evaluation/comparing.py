"""The comparisons of one evaluation: a prediction against a reference, its source, targets, or PAN and MS."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import Geoi2iError, RasterError
from ..grid import Window
from ..metrics import Accumulator, Measure, Score, Undefined, patch_of
from ..metrics.agreement import agreements, band_agreement, clipped, edge_displacement
from ..metrics.catalogue import METRICS, Images, better, of_bands, of_means
from ..metrics.histogram import histogram_counts, shares
from ..metrics.pansharpening import GAINS, qnr
from ..metrics.seams import seam_score
from ..metrics.spectrum import above, power_spectra, radial_means
from ..raster.security import STANDARD, Limits
from ..raster.source import RasterSource
from ..reproject.warp import Warping
from ..reproject.warped_raster import WarpedSource
from ..validation import nearest
from .compare import (
    Onto,
    Pair,
    PhysicalView,
    Progress,
    Thumbnail,
    averaged,
    measure_alone,
    measure_pair,
    measure_seams,
    measure_views,
    on_one_grid,
)
from .pan_views import Interpolated, Shrunk
from .results import Comparison, Curves, Result, band_names
from .setup import has_scale, limits, paired_bands, pixel_factor, whole_ratio

STRUCTURE, EDGES = ("psnr", "ssim", "scc_dlpan", "mid_energy", "high_energy"), ("scc_dlpan", "scc_local")
"""What is compared with the source when no metric is named; and with one that measures something else."""

Notice = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate."""

    metrics: tuple[str, ...] = ()
    """Names of the catalogue; none: the usual ones of each comparison."""
    onto: Onto | None = None
    """Whose grid is taken where pixels do not coincide; None: refused."""
    resampling: str = "bilinear"
    value_range: tuple[float, float] | None = None
    """Values shown as black and as full, in the data's units; None: 0 to 255 for 8 bits, else percentiles."""
    ratio: float | None = None
    """Pixel size of the source over the prediction's; None: measured."""
    rgb: tuple[int, int, int] | None = None
    """Bands (from 1) of the prediction that are red, green and blue; None: as marked, or the only three."""
    sensor: str | None = None
    weights: Path | None = None
    seams: int | None = None
    """Step of the windows whose borders are looked for; 0: any; None: not looked for."""
    limits: Limits = STANDARD
    """How far the rasters are trusted."""

    def __post_init__(self):
        for name in self.metrics:
            if name not in (*METRICS, "qnr", "hqnr"):
                known = [*METRICS, "qnr", "hqnr"]
                raise RasterError(f"There is no metric {name!r}. {nearest(name, known).capitalize()} "
                                  f"The names are {', '.join(known)}.")
        if self.sensor and self.sensor not in GAINS:
            raise RasterError(f"The blur of sensor {self.sensor!r} is unknown: choose from {', '.join(GAINS)}, or "
                              "leave --sensor out for a gain of 0.3.")
        if self.value_range and not self.value_range[0] < self.value_range[1]:
            raise RasterError(f"The range {self.value_range} is empty: give the value of black, then that of full.")


@dataclass
class Comparing:
    """One evaluation under way."""

    mine: RasterSource
    images: Images
    options: EvaluationOptions
    other_bands: tuple[int, ...] | None
    progress: Progress | None
    notice: Notice

    def against_reference(self, other: RasterSource, sigma: RasterSource | None) -> Comparison:
        other = self._paired(other)
        pair = on_one_grid(self.mine, other, self.options.onto, self.options.resampling)
        extra = {}
        if sigma:
            if not sigma.grid.matches(self.mine.grid) or len(sigma.bands) != len(self.mine.bands):
                raise RasterError(f"{sigma.path} does not lie on the pixels of {self.mine.path} band by band: give the "
                                  "standard deviations that were written with it.")
            if isinstance(pair.prediction, WarpedSource):
                raise RasterError("Standard deviations cannot be resampled with their prediction: take its grid with "
                                  "--onto prediction.")
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

    def _on_source_grid(self, other: RasterSource) -> Pair:
        """A finer prediction is seen with the source's pixels, as means over them."""
        one, two = self.mine.grid, other.grid
        if self.images.ratio > 1.0001 and one.crs == two.crs:
            return averaged(self.mine, other)
        return on_one_grid(self.mine, other, self.options.onto, self.options.resampling, "source")

    def against_targets(self, others: list[RasterSource]) -> Comparison:
        others = [self._paired(other) for other in others]
        metrics, shared = self._chosen(("sets",)), self._drawn()
        measures = [*(m for m in metrics.values() if isinstance(m, Measure)), *shared]
        mine = measure_alone(self.mine, measures, self.progress)
        theirs = None
        for other in others:
            found = measure_alone(other, measures, self.progress)
            theirs = found if theirs is None else [one.merge(more) for one, more in zip(theirs, found)]
        for one, other in zip(mine, theirs):
            _set_against(one, other)
        factors = [pixel_factor(self.mine, other) for other in others]
        if any(factor > 1.1 for factor in factors):
            self.notice(f"Pixels of the targets and of {self.mine.path} differ in size by up to {max(factors):.3g}: "
                        "frequencies are those of each one's own pixels.")
        return Comparison("targets", tuple(o.path for o in others), "each raster's own pixels",
                          tuple(_results(metrics, mine)), curves=_curves(mine[-2:], "target"))

    def against_pan(self, ms: RasterSource, pan: RasterSource) -> Comparison:
        ms = self._paired(ms)
        ratio, sensor = whole_ratio(self.mine, ms, pan), self.images.sensor
        if sensor and len(GAINS[sensor]) != len(ms.bands):
            raise RasterError(f"Sensor {sensor} has {len(GAINS[sensor])} bands and {ms.path} {len(ms.bands)}: name "
                              "another, or leave --sensor out for a gain of 0.3 in all.")
        views = [PhysicalView(r, Window(0, 0, r.grid.height, r.grid.width), anywhere=True)
                 for r in (self.mine, pan, ms, pan)]
        views[2], views[3] = Interpolated(views[2], ratio), Interpolated(Shrunk(views[3], ratio), ratio)
        images = replace(self.images, ratio=ratio)
        wanted = set(self.options.metrics)
        parts = {"qnr": {"d_lambda", "d_s"}, "hqnr": {"d_lambda_khan", "d_s"}}
        asked = wanted | {part for name in wanted & set(parts) for part in parts[name]}
        metrics = {name: METRICS[name].make(images) for name in ("d_lambda", "d_s", "d_lambda_khan")
                   if not wanted or name in asked}
        exp = range(len(ms.bands))
        measures = [m if name == "d_s" else of_bands(m, exp, exp) for name, m in metrics.items()]

        def assemble(parts, owned):
            (fused, _), (fine, _), (coarse, _), (low, _) = parts
            valid = np.logical_and.reduce([mask for _, mask in parts])
            return patch_of(np.concatenate([coarse, fine, low]), fused, valid, owned)

        results = list(_results(metrics, measure_views(views, assemble, measures, None, self.progress)))
        value = {r.metric: r.score for r in results}
        for name, spectral in (("qnr", "d_lambda"), ("hqnr", "d_lambda_khan")):
            if spectral in value and "d_s" in value and (not wanted or name in wanted):
                one = value[spectral]
                results.append(Result(name, replace(one, name=name.upper(), value=qnr(one.value, value["d_s"].value)),
                                      better(name)))
        return Comparison("pan", (ms.path, pan.path), f"the pixels of PAN, {ratio} times as fine as MS",
                          tuple(results))

    def by_itself(self, source: RasterSource | None) -> Comparison:
        metrics = self._chosen(("alone",))
        if not self.options.metrics:
            ends = limits(self.mine)
            if ends:
                metrics["clipped"] = clipped(*ends)
            if source and self.images.ratio > 1.0001:
                metrics["above_nyquist"] = above(0.5 / self.images.ratio, power_spectra())
        measures = [m for m in metrics.values() if isinstance(m, Measure)]
        results = list(_results(metrics, measure_alone(self.mine, measures, self.progress) if measures else []))
        if "above_nyquist" in metrics and source.grid.crs == self.mine.grid.crs:
            smooth = WarpedSource(source, self.mine.grid, Warping("cubic"))
            known = measure_alone(smooth, [metrics["above_nyquist"]], self.progress)[0].compute()
            results.append(Result("above_nyquist_of_cubic", replace(known, name="the same of the source, cubic"),
                                  better("above_nyquist_of_cubic")))
        if self.options.seams is not None:
            found = measure_seams(self.mine, self.options.seams or None, self.progress)
            results += [Result(f"seams_{axis}", seam_score(axis, lattice), better(f"seams_{axis}"))
                        for axis, lattice in found.items()]
        return Comparison("prediction", (), "its own pixels", tuple(results))

    def _paired(self, other: RasterSource) -> RasterSource:
        other, text = paired_bands(self.mine, other, self.other_bands)
        if text:
            self.notice(text)
        if other.dtype != self.mine.dtype and not has_scale(other) and not has_scale(self.mine):
            self.notice(f"{self.mine.path} holds {self.mine.dtype} and {other.path} {other.dtype}: the numbers are "
                        "compared as they are, for neither has a scale.")
        return other

    def _chosen(self, kinds: tuple[str, ...], usual: Sequence[str] | None = None) -> dict[str, Measure | Score]:
        """Metrics of some kinds, made; a score without value where one cannot be."""
        names = [n for n in self.options.metrics if n in METRICS] or usual or [n for n, m in METRICS.items() if m.usual]
        made: dict[str, Measure | Score] = {}
        for name in names:
            if METRICS[name].kind in kinds:
                try:
                    made[name] = METRICS[name].make(self.images)
                except (Undefined, Geoi2iError) as error:
                    note = f"{name} has no value: {str(error).rstrip('.')}."
                    made[name] = Score(name, float("nan"), "", 0, 0, {}, note)
        return made

    def _drawn(self) -> list[Measure]:
        """Histograms and spectra for the curves; sums only."""
        made = METRICS["chi_square"].make(self.images), METRICS["mid_energy"].make(self.images)
        return [replace(made[0], sums=histogram_counts(self.images.low, self.images.high)), made[1]]

    def _paired_comparison(self, kind, pair: Pair, metrics: dict, extra: dict, sigma=None, grey: bool = False
                           ) -> Comparison:
        mine = range(len(self.mine.bands))
        drawn = [] if grey else [*self._drawn(), band_agreement()]
        if sigma:
            metrics = {k: m if isinstance(m, Score) else of_bands(m, mine, mine) for k, m in metrics.items()}
            drawn = [of_bands(m, mine, mine) for m in drawn]
        metrics = metrics | extra
        thumbnail = Thumbnail(pair.windows[0].height, pair.windows[0].width, len(self.mine.bands))
        measures = [*(m for m in metrics.values() if isinstance(m, Measure)), *drawn]
        found = measure_pair(pair, measures, sigma, thumbnail, self.progress)
        results = tuple(_results(metrics, found))
        if not grey and not found[-1].totals.get("count"):
            return Comparison(kind, (pair.reference.path,), pair.statement, results, thumbnail=thumbnail)
        curves, rows = Curves(), ()
        if not grey:
            curves = _curves(found[-3:-1], kind)
            rows = tuple(zip(band_names(self.mine), agreements(found[-1].totals)))
        judged = next((one for one in found if one.measure is metrics.get("ece")), None)
        if judged:
            curves = replace(curves, calibration=_calibration(judged))
        return Comparison(kind, (pair.reference.path,), pair.statement, results, rows, curves, thumbnail)


def _results(metrics: dict[str, Measure | Score], found: list[Accumulator]) -> Iterator[Result]:
    """Scores in the order of the metrics; `found` begins with those that were measured."""
    found = iter(found)
    for name, metric in metrics.items():
        score = metric if isinstance(metric, Score) else next(found).compute()
        yield Result(name, score, better(name))


def _set_against(mine: Accumulator, theirs: Accumulator) -> None:
    """Lets what was found in other rasters be the reference; both were seen alone.

    Measures of sets keep what they find in each image under keys that begin with its name.
    """
    own = {k: v for k, v in mine.totals.items() if not k.startswith("reference")}
    mine.totals = own | {k: v for k, v in theirs.totals.items() if k.startswith("reference")} | {
        "count": min(mine.totals["count"], theirs.totals["count"])}
    mine.excluded += theirs.excluded


def _curves(found: list[Accumulator], other: str) -> Curves:
    counts, spectra = (one.totals for one in found)
    if not counts.get("count"):
        return Curves()
    names = {"prediction": "prediction", "reference": other}
    drawn = Curves({name: shares(counts[key]) for key, name in names.items()})
    if not spectra.get("count"):
        return drawn
    frequencies, _ = radial_means(spectra["prediction"])
    return replace(drawn, frequencies=frequencies, spectra={
        name: radial_means(spectra[key] / spectra[f"{key}_count"])[1] for key, name in names.items()})


def _calibration(found: Accumulator) -> tuple[tuple[float, float], ...]:
    if not found.totals.get("count"):
        return ()
    levels = found.measure.settings["levels"]
    return tuple((a, float(below / found.totals["values"])) for a, below in zip(levels, found.totals["below"]))
