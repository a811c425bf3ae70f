"""What an evaluation found, as records, and as JSON, CSV and text."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..metrics import Score
from ..metrics.agreement import BandAgreement
from ..metrics.catalogue import Images
from ..raster.rows import Raster
from ..writing import write_whole
from .thumbnail import Thumbnail

Against = Literal["reference", "source", "targets", "pan", "prediction"]
"""What a prediction is compared with."""


@dataclass(frozen=True)
class Result:
    """A score under its name in the catalogue."""

    metric: str
    score: Score
    better: str


@dataclass(frozen=True)
class Curves:
    """What is drawn of the images of a comparison, by image: its histogram by band, its spectrum by band."""

    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    """(C,31) shares."""
    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    """(C,32) mean power at `frequencies`."""
    frequencies: np.ndarray | None = None
    """(32,) cycles per pixel."""
    calibration: tuple[tuple[float, float], ...] = ()
    """Predicted quantile and the share of reference values below it."""


@dataclass(frozen=True)
class Comparison:
    """What was found between a prediction and something else."""

    kind: Against
    against: tuple[str, ...]
    statement: str = ""
    """On which pixels."""
    results: tuple[Result, ...] = ()
    bands: tuple[tuple[str, BandAgreement], ...] = ()
    curves: Curves = Curves()
    thumbnail: Thumbnail | None = None
    failure: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of a prediction."""

    prediction: Raster
    images: Images
    range_statement: str
    comparisons: tuple[Comparison, ...]

    def rows(self) -> Iterator[tuple[Comparison, Result]]:
        """Every score."""
        return ((comparison, result) for comparison in self.comparisons for result in comparison.results)

    def as_json(self) -> dict:
        """All but pictures, as plain data for JSON; what has no value or an infinite one is null."""
        return {"prediction": self.prediction.path, "range": [self.images.low, self.images.high],
                "range_statement": self.range_statement,
                "comparisons": [_facts(comparison) for comparison in self.comparisons]}


def _facts(comparison: Comparison) -> dict:
    curves = comparison.curves
    return {
        "kind": comparison.kind, "against": list(comparison.against), "pixels": comparison.statement,
        "failure": comparison.failure or None,
        "scores": [{"metric": r.metric, "name": r.score.name, "value": _finite(r.score.value), "unit": r.score.unit,
                    "better": r.better, "n_valid": r.score.n_valid, "excluded": r.score.excluded,
                    "settings": _plain(r.score.settings), "note": r.score.note or _infinite(r.score)}
                   for r in comparison.results],
        "bands": [{"band": name, **{k: _finite(v) for k, v in asdict(row).items()}} for name, row in comparison.bands],
        "spectra": {"cycles_per_pixel": _plain(curves.frequencies), **{k: _plain(v) for k, v in curves.spectra.items()}}
        if curves.spectra else None,
        "histograms": {k: _plain(v) for k, v in curves.histograms.items()} or None,
        "calibration": _plain(curves.calibration) or None}


def _infinite(score: Score) -> str | None:
    return "the value is infinite: both images are equal" if math.isinf(score.value) else None


def _finite(value):
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else _finite(value)

_TITLES = {"reference": "against reference", "source": "against its source", "targets": "against targets",
           "pan": "without reference, from", "prediction": "by itself"}


def title(comparison: Comparison) -> str:
    """What was compared with what, as half a sentence."""
    names = [Path(path).name for path in comparison.against]
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return f"{_TITLES[comparison.kind]} {', '.join(names[:3])}{more}".strip()


def band_names(raster: Raster) -> list[str]:
    """Names for people: those of the file, else colours, else numbers."""
    return [band.name or (band.colour if band.colour in ("red", "green", "blue") else f"band {k}")
            for band, k in zip(raster.bands, raster.indexes)]


def shown(score: Score, digits: int = 5) -> str:
    """A value with its unit."""
    if math.isnan(score.value):
        return "no value"
    return f"{score.value:.{digits}g} {score.unit}".strip().replace("inf", "infinite")


def table(evaluation: Evaluation) -> str:
    """The scores as lines of text."""
    lines = [f"{evaluation.prediction.path}", f"  values from {evaluation.images.low:g} to {evaluation.images.high:g}: "
             f"{evaluation.range_statement}"]
    for comparison in evaluation.comparisons:
        lines += ["", f"  {title(comparison)}: {comparison.statement}" if comparison.statement else title(comparison)]
        if comparison.failure:
            lines.append(f"    {comparison.failure}")
        for result in comparison.results:
            score = result.score
            lines.append(f"    {score.name:<36}{shown(score):>16}   {result.better:<12}"
                         f"{score.n_valid:>12} counted, {score.excluded} without data")
            if score.note:
                lines.append(f"      {score.note}")
        for name, row in comparison.bands:
            lines.append(f"    {name:<20} bias {row.bias:.5g}  RMSE {row.rmse:.5g}  slope {row.slope:.5g}  correlation "
                         f"{row.correlation:.5g}")
    return "\n".join(lines)


Column = tuple[str, str, str, str]
"""A comparison, a metric of the catalogue, its name and its unit."""


def columns_of(evaluations: Sequence[Evaluation]) -> tuple[list[Column], list[list[str]]]:
    """Every metric that any of several evaluations has, and the values of each; empty where it lacks one."""
    seen: dict[tuple[str, str], Column] = {}
    for evaluation in evaluations:
        for c, r in evaluation.rows():
            if not seen.get((c.kind, r.metric), ("",) * 4)[3]:  # a raster without units may come first
                seen[c.kind, r.metric] = c.kind, r.metric, r.score.name, r.score.unit
    columns, rows = list(seen.values()), []
    for evaluation in evaluations:
        found: dict[tuple[str, str], str] = {
            (c.kind, r.metric): shown(r.score, 4).removesuffix(r.score.unit) for c, r in evaluation.rows()}
        rows.append([found.get(column[:2], "") for column in columns])
    return columns, rows


def side_by_side(evaluations: Sequence[Evaluation]) -> str:
    """The scores of several predictions as lines of text: a line a metric, a column a prediction."""
    columns, rows = columns_of(evaluations)
    names = [Path(evaluation.prediction.path).stem[-24:] for evaluation in evaluations]
    widths = [max(len(name), 12) + 2 for name in names]
    lines = [" " * 46 + "".join(f"{name:>{width}}" for name, width in zip(names, widths))]
    for k, (kind, _, name, unit) in enumerate(columns):
        label = f"{name}{', ' + unit if unit else ''} ({kind})"
        lines.append(f"{label:<46}" + "".join(f"{row[k].strip():>{width}}" for row, width in zip(rows, widths)))
    return "\n".join(lines)


def save_json(evaluations: Sequence[Evaluation], path: Path) -> Path:
    """One object for one evaluation, a list for several; floats in full, what has no value is null."""
    pages = [evaluation.as_json() for evaluation in evaluations]
    return write_whole(path, json.dumps(pages[0] if len(pages) == 1 else pages, indent=1, allow_nan=False) + "\n")


def save_csv(evaluations: Sequence[Evaluation], path: Path) -> Path:
    """A line for each score: prediction, comparison, against, metric, value, unit, counts, note."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prediction", "comparison", "against", "metric", "value", "unit", "better", "n_valid", "excluded",
                     "note"])
    for evaluation in evaluations:
        for comparison, result in evaluation.rows():
            score = result.score
            against = ";".join(comparison.against)
            writer.writerow([*map(_cell, (evaluation.prediction.path, comparison.kind, against, result.metric)),
                             "" if math.isnan(score.value) else repr(score.value), _cell(score.unit),
                             _cell(result.better), score.n_valid, score.excluded, _cell(score.note)])
    return write_whole(path, text.getvalue())


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, whichever separator it is set to: names and units come from
    files of others."""
    return re.sub(r"(^|[;,\t\r\n])(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])", r"\1'", text)
