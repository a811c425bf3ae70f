"""An evaluation as one page: self-contained, without network, light enough to mail."""

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ... import __version__
from ..metrics.catalogue import definition
from ..metrics.spectrum import HIGH, MID
from ..raster.pictures import encode_picture
from ..writing import write_whole
from .charts import Line, chart, steps
from .results import Comparison, Curves, Evaluation, Result, band_names, columns_of, shown, title
from .thumbnail import Thumbnail

TEMPLATES = Path(__file__).resolve().parents[2] / "resources" / "report"

_COLD, _EVEN, _WARM = np.array([33, 102, 172]), np.array([247, 247, 247]), np.array([178, 24, 43])
_EMPTY = np.array([206, 208, 212])


def save_report(evaluation: Evaluation, path: Path) -> Path:
    """Writes the page; its folder is made."""
    raster = evaluation.prediction
    page = _template("report.html").render(
        name=Path(raster.path).name, version=__version__, low=f"{evaluation.images.low:g}",
        high=f"{evaluation.images.high:g}", range_statement=evaluation.range_statement, unit=evaluation.images.unit,
        summary=f"{raster.grid.height} x {raster.grid.width} pixels, {len(raster.bands)} "
              f"band{'s' * (len(raster.bands) > 1)}, {raster.dtype}",
        sections=[_section(evaluation, comparison) for comparison in evaluation.comparisons])
    return write_whole(path, page)


def save_index(evaluations: Sequence[Evaluation], pages: Sequence[Path], path: Path) -> Path:
    """Writes a page with the scores of several evaluations, each with a link to its own page."""
    columns, values = columns_of(evaluations)
    rows = [(Path(evaluation.prediction.path).name, os.path.relpath(page, path.parent).replace(os.sep, "/"), row)
            for evaluation, page, row in zip(evaluations, pages, values)]
    page = _template("index.html").render(columns=columns, rows=rows, version=__version__)
    return write_whole(path, page)


def _template(name: str):
    loader = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                         trim_blocks=True, lstrip_blocks=True)
    return loader.get_template(name)


def _section(evaluation: Evaluation, comparison: Comparison) -> dict:
    other = "source" if comparison.kind == "source" else "reference"
    comparison = replace(comparison, curves=_with_source(evaluation, comparison))
    curves = comparison.curves
    return {"title": title(comparison), "kind": comparison.kind, "statement": comparison.statement,
            "failure": comparison.failure, "other": other, "scores": [_row(r) for r in comparison.results],
            "bands": [(name, [_short(v) for v in (row.mean, row.bias, row.rmse, row.slope, row.correlation)])
                      for name, row in comparison.bands],
            "pictures": _pictures(evaluation, comparison.thumbnail) if comparison.thumbnail else None,
            "histograms": _histograms(evaluation, comparison),
            "names": [(name, _STYLES[name]) for name in curves.histograms or curves.spectra],
            "spectrum": _spectrum(comparison), "calibration": _calibration(comparison)}


def _with_source(evaluation: Evaluation, comparison: Comparison) -> Curves:
    """What is compared with targets is drawn with its source too, where both have pixels of one size."""
    curves = comparison.curves
    source = next((c.curves for c in evaluation.comparisons if c.kind == "source"), Curves())
    if comparison.kind != "targets" or abs(evaluation.images.ratio - 1) > 0.01 or not source.histograms:
        return curves
    return replace(curves, histograms=curves.histograms | {"source": source.histograms["source"]},
                   spectra=curves.spectra | ({"source": source.spectra["source"]} if source.spectra else {}))


def _row(result: Result) -> dict:
    score = result.score
    return {"name": score.name, "value": shown(score), "better": result.better, "counted": f"{score.n_valid:,}",
            "excluded": f"{score.excluded:,}", "note": score.note, "definition": definition(result.metric),
            "settings": "; ".join(f"{k} {_text(v)}" for k, v in score.settings.items())}


def _text(value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(_text(v) for v in value) if isinstance(value, (tuple, list)) else str(value)


def _short(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4g}"


def _pictures(evaluation: Evaluation, thumbnail: Thumbnail) -> dict:
    reference, prediction = thumbnail.images()
    low, high = evaluation.images.low, evaluation.images.high
    colours = evaluation.images.colours
    found = {"prediction": _picture(prediction, colours, low, high), "width": thumbnail.shape[1],
             "height": thumbnail.shape[0], "factor": thumbnail.factor, "map": None}
    if len(reference) != len(prediction):  # another kind of sensor: it has a range of its own
        known = reference[np.isfinite(reference)]
        low, high = np.percentile(known, (2, 98)) if known.size else (low, high)
        return found | {"other": _picture(reference, None, low, high)}
    difference = (prediction - reference).mean(0)
    known = np.abs(difference[np.isfinite(difference)])
    most = float(np.percentile(known, 99)) if known.size else 0.0
    most = most or float(known.max(initial=0)) or 1.0
    return found | {"other": _picture(reference, colours, low, high), "map": _url(_diverging(difference / most)),
                    "most": f"{most:.4g}"}


def _picture(image: np.ndarray, colours: tuple[int, int, int] | None, low: float, high: float) -> str:
    order = colours if colours and max(colours) < len(image) else (0, 1, 2) if len(image) >= 3 else (0, 0, 0)
    scaled = (image[list(order)] - low) / max(high - low, 1e-300) * 255
    shades = np.clip(np.rint(np.nan_to_num(scaled)), 0, 255)
    return _url(np.where(np.isfinite(scaled).all(0), shades, _EMPTY[:, None, None]).astype(np.uint8))


def _diverging(values: np.ndarray) -> np.ndarray:
    """(h,w) from -1 to 1 as blue to white to red (3,h,w)."""
    share = np.nan_to_num(values).clip(-1, 1)
    ends = np.where(share[None] < 0, _COLD[:, None, None], _WARM[:, None, None])
    shades = _EVEN[:, None, None] + (ends - _EVEN[:, None, None]) * np.abs(share)
    return np.where(np.isfinite(values), np.rint(shades), _EMPTY[:, None, None]).astype(np.uint8)


def _url(rgb: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_picture(rgb, "JPEG")).decode()


_STYLES = {"prediction": "prediction", "reference": "other", "source": "source", "target": "other"}


def _histograms(evaluation: Evaluation, comparison: Comparison) -> list[tuple[str, Markup]]:
    curves, images = comparison.curves, evaluation.images
    found = []
    for k, band in enumerate(band_names(evaluation.prediction) if curves.histograms else ()):
        edges = np.linspace(images.low, images.high, next(iter(curves.histograms.values())).shape[1] + 1)
        lines = [Line(name, *steps(edges, share[k] * 100), _STYLES[name]) for name, share in curves.histograms.items()]
        found.append((band, _chart(lines, images.unit or "value", "% of pixels", height=190,
                                   title=f"Histogram, {band}")))
    return found


def _spectrum(comparison: Comparison) -> Markup:
    curves = comparison.curves
    if not curves.spectra or curves.frequencies is None:
        return Markup("")
    lines = [Line(name, curves.frequencies, power.mean(0), _STYLES[name]) for name, power in curves.spectra.items()]
    return _chart(lines, "spatial frequency, cycles per pixel", "power", True, True,
                  [(*MID, "mid"), (*HIGH, "high")], title="Power spectra")


def _calibration(comparison: Comparison) -> Markup:
    if not comparison.curves.calibration:
        return Markup("")
    at, share = (np.array(v) for v in zip(*comparison.curves.calibration))
    whole = np.array([0.0, 1.0])
    return _chart([Line("ideal", whole, whole, "ideal"), Line("prediction", at, share, "prediction")],
                  "predicted quantile", "share of values below", x_range=(0.0, 1.0), title="Calibration")


def _chart(*what, **how) -> Markup:
    """A chart, which has escaped what it was given."""
    return Markup(chart(*what, **how))  # nosec B704 # charts escape their words
