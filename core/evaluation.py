"""What a translation is worth: a prediction against a reference, its source, a set of targets, or PAN and MS.

    rasters -> one grid -> patches -> measures -> Evaluation -> JSON, CSV, report
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from affine import Affine

from .comparison import (
    Onto,
    Pair,
    PhysicalView,
    Progress,
    Thumbnail,
    measure_alone,
    measure_pair,
    measure_views,
    on_one_grid,
)
from .errors import Geoi2iError, RasterError
from .findings import Comparison, Curves, Evaluation, Result, band_names
from .grid import Window
from .metrics import Accumulator, Measure, Score, Undefined, patch_of
from .metrics.agreement import agreements, band_agreement, clipped, edge_displacement
from .metrics.catalogue import METRICS, Images, Kind, better, of_bands, of_means
from .metrics.histogram import histogram_counts, shares
from .metrics.pansharpening import GAINS, qnr
from .metrics.seams import CONTEXT_PX, RUN_PX, Lattice, StepProfile
from .metrics.spectrum import above, power_spectra, radial_means
from .pan_views import Interpolated, Shrunk
from .raster import RasterSource
from .validation import nearest
from .warp import StreamWindows, WarpedSource, Warping

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


def evaluate(prediction: str, *, reference: str | None = None, source: str | None = None,
             targets: Sequence[str] = (), pan: str | None = None, uncertainty: str | None = None,
             bands: tuple[int, ...] | None = None, reference_bands: tuple[int, ...] | None = None,
             options: EvaluationOptions = EvaluationOptions(), progress: Callable[[int, int, str], None] | None = None,
             notice: Notice = lambda text: None) -> Evaluation:
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
    mine = RasterSource.open(prediction, bands)
    others = {"reference": reference, "source": source, "pan": pan}
    opened = {kind: RasterSource.open(path) for kind, path in others.items() if path}
    aims = [RasterSource.open(path) for path in targets]
    images, statement = _images(mine, opened, aims, options)
    run = _Run(mine, images, options, reference_bands, None, notice)
    jobs: list[tuple[str, tuple[str, ...], Callable[[], Comparison]]] = []
    if reference:
        sigma = RasterSource.open(uncertainty) if uncertainty else None
        jobs.append(("reference", (reference,), lambda: run.against_reference(opened["reference"], sigma)))
    if source:
        jobs.append(("source", (source,), lambda: run.against_source(opened["source"])))
    if targets:
        jobs.append(("targets", tuple(targets), lambda: run.against_targets(aims)))
    if pan:
        jobs.append(("pan", (source, pan), lambda: run.against_pan(opened["source"], opened["pan"])))
    jobs.append(("prediction", (), lambda: run.by_itself(opened.get("source"))))
    _check_wanted(options, {kind for kind, _, _ in jobs}, bool(uncertainty))
    found = []
    for kind, against, job in jobs:
        run.progress = progress and partial(_told, progress, kind)
        try:
            found.append(job())
        except Geoi2iError as error:
            notice(str(error))
            found.append(Comparison(kind, against, failure=str(error)))
    if all(c.failure for c in found[:-1]) and (len(found) > 1 or found[0].failure):
        raise RasterError(" ".join(dict.fromkeys(c.failure for c in found if c.failure)))
    return Evaluation(mine, images, statement, tuple(c for c in found if c.results or c.failure))


def _told(progress: Callable[[int, int, str], None], kind: str, done: int, total: int) -> None:
    progress(done, total, kind)


_OF_KIND: dict[str, tuple[Kind, ...]] = {"reference": ("paired", "sets"), "source": ("paired", "sets"),
                                         "targets": ("sets",), "pan": ("pan",), "prediction": ("alone",)}
_NEEDS = {"paired": "--reference or --source", "sets": "--reference, --source or --target",
          "pan": "--source and --pan", "uncertainty": "--reference and --uncertainty"}


def _check_wanted(options: EvaluationOptions, kinds: set[str], uncertain: bool) -> None:
    """A metric that is named and has nothing to look at is a mistake."""
    there = {kind for name in kinds for kind in _OF_KIND[name]} | ({"uncertainty"} if uncertain else set())
    for name in options.metrics:
        kind = METRICS[name].kind if name in METRICS else "pan"
        if kind not in there:
            raise RasterError(f"The metric {name} has nothing to look at: give {_NEEDS[kind]}.")
    if not options.metrics and kinds == {"prediction"} and options.seams is None:
        raise RasterError("There is nothing to compare with: give --reference, --source, --target or --pan, or name "
                          "a --metric that needs none, or --seams.")


def _images(mine: RasterSource, opened: dict[str, RasterSource], aims: list[RasterSource],
            options: EvaluationOptions) -> tuple[Images, str]:
    """The facts that measures are made with, and where the range of values comes from."""
    source = opened.get("source")
    alike = source and (source.dtype, len(source.bands)) == (mine.dtype, len(mine.bands))
    norm = opened.get("reference") or (aims[0] if aims else None) or (source if alike else mine)
    if options.value_range:
        (low, high), statement = options.value_range, "as given"
    elif norm.dtype == "uint8" and all((b.scale, b.offset) == (1, 0) for b in norm.bands):
        low, high, statement = 0.0, 255.0, "all that 8 bits hold"
    else:
        low, high = _percentiles(norm)
        statement = f"the lowest 0.1 and highest 99.9 percentile of the bands of {norm.path}, at reduced size"
    units = {band.unit or "" for band in mine.bands}
    return Images(len(mine.bands), low, high, units.pop() if len(units) == 1 else "",
                  options.ratio or _ratio(mine, source), _colours(mine, options.rgb), options.sensor,
                  options.weights), statement


def _percentiles(raster: RasterSource) -> tuple[float, float]:
    try:
        found = raster.statistics((0.1, 99.9)).percentiles
    except RasterError:  # no valid pixel: each metric says so itself
        return 0.0, 1.0
    low, high = float(np.nanmin(found[0.1])), float(np.nanmax(found[99.9]))
    return (low, high) if low < high else (low, low + 1)


def _ratio(mine: RasterSource, source: RasterSource | None) -> float:
    """Pixel size of the source over the prediction's."""
    if source is None:
        return 1.0
    sizes = [math.sqrt(abs(r.grid.transform.determinant)) for r in (source, mine)]
    return round(sizes[0] / sizes[1], 6)


def _colours(raster: RasterSource, rgb: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    count = len(raster.bands)
    if rgb:
        if len(rgb) != 3 or not all(1 <= k <= count for k in rgb):
            raise RasterError(f"--rgb {','.join(map(str, rgb))} does not name three of the {count} bands: give three "
                              f"numbers from 1 to {count}.")
        return tuple(k - 1 for k in rgb)
    marked = {band.colour: k for k, band in enumerate(raster.bands)}
    if {"red", "green", "blue"} <= set(marked):
        return tuple(marked[name] for name in ("red", "green", "blue"))
    return (0, 1, 2) if count == 3 else None


def paired_bands(prediction: RasterSource, other: RasterSource, chosen: tuple[int, ...] | None = None
                 ) -> tuple[RasterSource, str]:
    """The other raster with the bands that those of the prediction are compared with, and what there is to say.

    Raises:
        RasterError: where the counts differ and names do not help.
    """
    if chosen:
        other = RasterSource.open(other.path, chosen)
    mine, theirs = ([band.name for band in raster.bands] for raster in (prediction, other))
    named = all(mine) and all(theirs) and len(set(theirs)) == len(theirs)
    if not chosen and named and set(mine) <= set(theirs) and mine != theirs:
        picked = tuple(other.indexes[theirs.index(name)] for name in mine)
        return (RasterSource.open(other.path, picked),
                f"Bands of {other.path} are taken by name: {', '.join(mine)} are its {', '.join(map(str, picked))}.")
    if len(mine) != len(theirs):
        raise RasterError(f"{prediction.path} has {len(mine)} bands and {other.path} has {len(theirs)}, without names "
                          "that would tell which belong together: choose them with --bands and --reference-bands.")
    if named and mine != theirs:
        return other, (f"Bands of {other.path} are compared in order, though they have other names: "
                       + ", ".join(f"{a} with {b}" for a, b in zip(mine, theirs)) + ".")
    return other, ""


@dataclass
class _Run:
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
        extra = {"edge_displacement": edge_displacement()}
        if grey:
            metrics = {k: m if isinstance(m, Score) else of_means(m) for k, m in metrics.items()}
            pair = replace(pair, statement=pair.statement + grey)
        return self._paired_comparison("source", pair, metrics, extra, None, bool(grey))

    def _on_source_grid(self, other: RasterSource) -> Pair:
        """A finer prediction is seen with the source's pixels, as means over them."""
        one, two = self.mine.grid, other.grid
        if self.images.ratio > 1.0001 and one.crs == two.crs:
            window = Window(0, 0, two.height, two.width)
            return Pair(WarpedSource(self.mine, two, Warping("average")), other, (window, window),
                        f"the {two.height} x {two.width} pixels of the source, over which the prediction was averaged")
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
        factors = [_pixel_factor(self.mine, other) for other in others]
        if any(factor > 1.1 for factor in factors):
            self.notice(f"Pixels of the targets and of {self.mine.path} differ in size by up to {max(factors):.3g}: "
                        "frequencies are those of each one's own pixels.")
        return Comparison("targets", tuple(o.path for o in others), "each raster's own pixels",
                          tuple(_results(metrics, mine)), curves=_curves(mine[-2:], "target"))

    def against_pan(self, ms: RasterSource, pan: RasterSource) -> Comparison:
        ms = self._paired(ms)
        ratio = _whole_ratio(self.mine, ms, pan)
        views = [PhysicalView(r, Window(0, 0, r.grid.height, r.grid.width)) for r in (self.mine, pan, ms, pan)]
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
            limits = _limits(self.mine)
            if limits:
                metrics["clipped"] = clipped(*limits)
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
            results += self._seams()
        return Comparison("prediction", (), "its own pixels", tuple(results))

    def _seams(self) -> Iterator[Result]:
        grid = self.mine.grid
        profile, step = StepProfile(grid.height, grid.width), 4 * RUN_PX
        held = StreamWindows(self.mine.rows(), step + 2 * CONTEXT_PX)
        with held:
            for row in range(0, grid.height, step):
                first, stop = max(0, row - CONTEXT_PX), min(grid.height, row + step)
                last = min(grid.height, stop + CONTEXT_PX)
                rows = held.read(Window(first, 0, last - first, grid.width))
                valid = np.ones(rows.pixels.shape[1:], bool) if rows.mask is None else (rows.mask != 0).all(0)
                profile.update(row, rows.pixels, valid, slice(row - first, stop - first))
                if self.progress:
                    self.progress(stop, grid.height)
        for axis, lattice in profile.lattices(self.options.seams or None).items():
            yield Result(f"seams_{axis}", _seam_score(axis, lattice), better(f"seams_{axis}"))

    def _paired(self, other: RasterSource) -> RasterSource:
        other, text = paired_bands(self.mine, other, self.other_bands)
        if text:
            self.notice(text)
        if other.dtype != self.mine.dtype and not _scaled(other) and not _scaled(self.mine):
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
        if "ece" in metrics and isinstance(metrics["ece"], Measure):
            curves = replace(curves, calibration=_calibration(found[list(metrics).index("ece")]))
        return Comparison(kind, (pair.reference.path,), pair.statement, results, rows, curves, thumbnail)


def _results(metrics: dict[str, Measure | Score], found: list[Accumulator]) -> Iterator[Result]:
    """Scores in the order of the metrics; `found` begins with those that were measured."""
    found = iter(found)
    for name, metric in metrics.items():
        score = metric if isinstance(metric, Score) else next(found).compute()
        yield Result(name, score, better(name))


def _set_against(mine: Accumulator, theirs: Accumulator) -> None:
    """Lets what was found in other rasters be the reference; both were seen alone."""
    shared = {"count": min(mine.totals["count"], theirs.totals["count"])}
    own = {k: v for k, v in mine.totals.items() if not k.startswith("reference")}
    # Sums are compared as means, for the sets may differ in size.
    scale = mine.totals["count"] / max(theirs.totals["count"], 1)
    mine.totals = own | {k: v * scale for k, v in theirs.totals.items() if k.startswith("reference")} | shared
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
        name: radial_means(spectra[key] / spectra["count"])[1] for key, name in names.items()})


def _calibration(found: Accumulator) -> tuple[tuple[float, float], ...]:
    if not found.totals.get("count"):
        return ()
    levels = found.measure.settings["levels"]
    return tuple((a, float(below / found.totals["values"])) for a, below in zip(levels, found.totals["below"]))


def _seam_score(axis: str, lattice: Lattice | None) -> Score:
    name = f"seams between {axis}"
    if lattice is None:
        return Score(name, float("nan"), "", 0, 0, {}, f"{name} have no value: the raster is too small or too even for "
                     "three lines of windows.")
    settings = {"period_px": lattice.period_px, "first_px": lattice.first_px, "chance": lattice.chance,
                "found": lattice.found}
    where = f"every {lattice.period_px} pixels from pixel {lattice.first_px}"
    note = (f"Window borders stand out {where}: the image steps {lattice.ratio:.2f} times as far there as beside "
            f"(by chance: {lattice.chance:.1e})." if lattice.found else
            f"No window borders stand out; the most likely ones, {where}, may be chance ({lattice.chance:.2g}).")
    return Score(name, lattice.ratio, "", lattice.lines, 0, settings, note)


def _limits(raster: RasterSource) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Physical values at the ends of an integer dtype; a valid pixel never has the value of nodata."""
    if np.dtype(raster.dtype).kind not in "iu":
        return None
    info = np.iinfo(raster.dtype)
    ends = []
    for band in raster.bands:
        low, high = info.min + (band.nodata == info.min), info.max - (band.nodata == info.max)
        ends.append(sorted((low * band.scale + band.offset, high * band.scale + band.offset)))
    return tuple(low for low, _ in ends), tuple(high for _, high in ends)


def _scaled(raster: RasterSource) -> bool:
    return any((band.scale, band.offset) != (1, 0) for band in raster.bands)


def _pixel_factor(one: RasterSource, other: RasterSource) -> float:
    sizes = [raster.grid.pixel_size_m or 1.0 for raster in (one, other)]
    return max(sizes) / min(sizes)


def _whole_ratio(fused: RasterSource, ms: RasterSource, pan: RasterSource) -> int:
    """How many pixels of PAN one of MS is wide.

    Raises:
        RasterError: where the three do not share one lattice.
    """
    if len(pan.bands) != 1:
        raise RasterError(f"{pan.path} has {len(pan.bands)} bands: PAN has one.")
    if not fused.grid.matches(pan.grid):
        raise RasterError(f"{fused.path} and PAN {pan.path} have different pixels: QNR and HQNR compare them pixel by "
                          "pixel; bring them to one grid with geoi2i reproject --like.")
    ratio = round(fused.grid.width / ms.grid.width)
    fine = replace(ms.grid, transform=ms.grid.transform @ Affine.scale(1 / max(ratio, 1)),
                   height=ms.grid.height * ratio, width=ms.grid.width * ratio)
    if not fine.matches(fused.grid):
        raise RasterError(f"The pixels of {ms.path} are no whole number of those of {fused.path} ({ms.grid.height} x "
                          f"{ms.grid.width} and {fused.grid.height} x {fused.grid.width}): crop both to the same "
                          "ground.")
    if ratio < 2 or ratio & (ratio - 1):
        raise RasterError(f"PAN is {ratio} times as fine as {ms.path}: QNR and HQNR are defined for 2, 4, 8.")
    return ratio
