"""One page about a training run, for the results viewer: its curves, its gate, its previews and its model."""

import base64
import html
import json
import os

from .text import tr

_WIDTH, _HEIGHT, _EDGE = 360, 140, 6
_MOST_PREVIEWS, _MOST_BYTES = 6, 4 << 20
_STYLE = """<style>body{font:15px/1.5 sans-serif;margin:1em;max-width:76em}
figure{display:inline-block;margin:0 1em 1em 0}
svg{background:#f4f6f8;display:block}polyline{fill:none;stroke:#1f6f8b;stroke-width:1.5}img{max-width:100%}
td,th{padding:0 1em 0 0;text-align:left;font-weight:normal}td{text-align:right}</style>"""


def page(folder, model):
    """The page as text.

    Args:
        folder: of the run: log.jsonl, previews.
        model: folder of the exported model.
    """
    curves = _curves(os.path.join(folder, "log.jsonl"))
    seconds = curves.pop("seconds", [])
    gate = {name: curve for name, curve in curves.items() if name.startswith("w_")}
    losses = {name: curve for name, curve in curves.items() if name not in gate}
    parts = ["<!doctype html><meta charset='utf-8'>", _STYLE, f"<h1>{html.escape(os.path.basename(model))}</h1>"]
    if losses:
        parts += ["<h2>{}</h2>".format(tr("Losses and distances")), *map(_figure, losses, losses.values())]
    if gate:
        parts += ["<h2>{}</h2>".format(tr("Gate: mean weight of each scale")), *map(_figure, gate, gate.values())]
    parts += [_table(losses, gate, seconds), *_previews(os.path.join(folder, "previews")), *_metrics(model)]
    parts.append("<p>{}</p>".format(html.escape(tr("The model is in {} and in the list of Translate raster.").format(
        model))))
    return "\n".join(parts)


def _curves(path):
    """Name -> [(step, value)] of all figures of a log."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                figures = json.loads(line)
                step = figures.pop("step")
            except (ValueError, KeyError, AttributeError):  # a line that was cut off
                continue
            for name, value in figures.items():
                if " of " in name:  # of closed forms, before the first step: see `_beside`
                    continue
                if isinstance(value, (int, float)) and abs(value) < 1e30:  # which NaN is not
                    found.setdefault(name, []).append((step, value))
    return found


def _figure(name, curve):
    values = [value for _, value in curve]
    low, high, first, last = min(values), max(values), curve[0][0], curve[-1][0]
    across = (_WIDTH - 2 * _EDGE) / max(last - first, 1)
    down = (_HEIGHT - 2 * _EDGE) / ((high - low) or 1)
    points = " ".join(f"{_EDGE + (step - first) * across:.1f},{_HEIGHT - _EDGE - (value - low) * down:.1f}"
                      for step, value in curve)
    text = html.escape(tr("{}: {:.4g} to {:.4g}, steps {} to {}").format(name, low, high, first, last))
    return (f"<figure><svg width='{_WIDTH}' height='{_HEIGHT}' role='img'><polyline points='{points}'/></svg>"
            f"<figcaption>{text}</figcaption></figure>")


def _table(losses, gate, seconds):
    rows = [f"<tr><th>{html.escape(name)}</th><td>{curve[0][1]:.4g}</td><td>{curve[-1][1]:.4g}</td></tr>"
            for name, curve in {**losses, **gate}.items()]
    pace = "<p>{}</p>".format(tr("{:.3g} s a step").format(seconds[-1][1])) if seconds else ""
    return "<table><tr><th></th><td>{}</td><td>{}</td></tr>{}</table>{}".format(
        tr("first"), tr("last"), "".join(rows), pace)


def _previews(folder):
    names = sorted(name for name in (os.listdir(folder) if os.path.isdir(folder) else ()) if name.endswith(".png"))
    names = names if len(names) <= _MOST_PREVIEWS else names[:1] + names[1 - _MOST_PREVIEWS:]
    if names:
        yield "<h2>{}</h2>".format(tr("Previews"))
    for name in names:
        path = os.path.join(folder, name)
        if os.path.getsize(path) > _MOST_BYTES:
            continue
        with open(path, "rb") as file:
            content = base64.b64encode(file.read()).decode("ascii")
        yield "<p>{}<br><img src='data:image/png;base64,{}'></p>".format(html.escape(name[:-len(".png")]), content)


def _metrics(model):
    """What the model's manifest says was measured, the baselines among it."""
    try:
        with open(os.path.join(model, "manifest.json"), encoding="utf-8") as file:
            metrics = json.load(file).get("metrics") or {}
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(metrics.get("validation"), dict):
        yield from _beside(metrics.pop("validation"))
    if metrics:
        yield "<h2>{}</h2><table>".format(tr("Measured"))
        for name, value in metrics.items():
            yield f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        yield "</table>"


def _beside(validation):
    """The network beside the closed forms that the same data give."""
    rows = {tr("the network"): validation.get("network") or {}, **(validation.get("closed_forms") or {})}
    names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    heads = "".join(f"<td>{html.escape(name)}</td>" for name in names)
    yield "<h2>{}</h2><p>{}</p><table><tr><th></th>{}</tr>".format(
        tr("Beside closed forms"), html.escape(str(validation.get("statement", ""))), heads)
    for row, figures in rows.items():
        cells = "".join(f"<td>{figures[name]:.4g}</td>" if name in figures else "<td></td>" for name in names)
        yield f"<tr><th>{html.escape(row)}</th>{cells}</tr>"
    yield "</table>"
