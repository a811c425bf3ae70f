"""The page of results, from what the parts told: goals first, then a table each, then what is missing and why."""

import datetime
from typing import Any

TITLES = {"machine": "what it is", "copies": "copies", "products": "matrix products", "scene": "the scene",
          "models": "bundled models over a raster, against fp32 on the CPU", "networks": "bundled networks, one window",
          "warp": "resampling", "positions": "distance from PROJ's positions", "metrics": "metrics of what was made",
          "runs": "runs over the scene", "bounds": "what bounds them", "overlap": "reading, computing, writing",
          "training": "steps a second", "memory": "too little of it", "sharing": "two processes on one GPU"}


def page(records: list[dict[str, Any]], dry: bool, command: str, elapsed: float) -> str:
    """Markdown; what was not measured is said."""
    lines = ["# GPU", "", f"Made by `{command}` in {elapsed:.0f} s, {datetime.date.today()}; do not edit.", ""]
    if dry:
        lines += ["**No GPU figure was taken.** This is the dry run: the same script, whole, at toy sizes on a CPU. It "
                  "shows that every part runs; none of its numbers says anything about speed, and no goal is judged. "
                  "On a machine with a GPU `python3 benchmarks/gpu.py --wheels DIR --out DIR` makes this page within 8 "
                  "minutes.", ""]
    goals = _of(records, "goals")
    lines += ["## Goals", "", "| goal | wanted | measured | met |", "|---|---|--:|---|"]
    for each in goals:
        met = {None: "not judged", True: "yes", False: "**no**"}[each["met"]]
        lines.append(f"| {each['goal']} | {each['wanted']} | {'-' if dry else _cell(each['measured'])} | {met} |")
    for part, name in dict.fromkeys((r["part"], r["table"]) for r in records if r.get("table") in TITLES):
        rows = [r for r in records if (r["part"], r.get("table")) == (part, name)]
        keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("part", "table", "at_s")))
        lines += ["", f"## {part.capitalize()}: {TITLES[name]}", "", f"| {' | '.join(keys)} |",
                  "|---" * len(keys) + "|"]
        lines += [f"| {' | '.join(_cell(row.get(key)) for key in keys)} |" for row in rows]
    for name, title in (("failed", "What failed"), ("left out", "What was left out")):
        if found := _of(records, name):
            lines += ["", f"## {title}", "", *dict.fromkeys(f"- {r['part']}: {r['what']}: {r['why']}" for r in found)]
    ended = [r for r in records if "seconds_used" in r]
    lines += ["", "## Time", "", *(f"- {r['part']}: {r['seconds_used']:.0f} s" for r in ended)]
    return "\n".join([*lines, ""])


def _of(records: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    return [record for record in records if record.get("table") == table]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
