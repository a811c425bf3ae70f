"""The figures of a domain gap experiment, as Markdown and as JSON."""

import json

import numpy as np

from . import domain_gap

_RESAMPLES = 10_000


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of (tiles,) paired differences, and the 95 % interval of 10,000 resamples of the tiles."""
    draws = np.random.default_rng(seed).integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(1), (2.5, 97.5))
    return float(differences.mean()), float(low), float(high)


def page(found: list[domain_gap.Found], summary: str) -> str:
    """The experiment as Markdown."""
    figures = list(found[0].figures["I"])
    lines = ["# Domain gap", "", summary, "", *str(domain_gap.__doc__).split("\n\n")[1].splitlines(), "",
             f"| method | case | {' | '.join(figures)} |", "|---|---|" + "---|" * len(figures)]
    for each in found:
        for case, rows in each.figures.items():
            cells = [_cell(rows[name]) for name in figures]
            lines.append(f"| {each.trial} | {case} | {' | '.join(cells)} |")
    lines += ["", "Means over the tiles; ± is the deviation over the seeds.", "",
              f"| method | difference | {' | '.join(figures)} |", "|---|---|" + "---|" * len(figures)]
    for each in found:
        for title, one, two in (("gap, II - I", "II", "I"), ("closed by pairs, III - II", "III", "II"),
                                ("by radiometry alone, III-h - III", "III-h", "III")):
            cells = []
            for name in figures:
                mean, low, high = interval(each.figures[one][name].mean(0) - each.figures[two][name].mean(0))
                cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
            lines.append(f"| {each.trial} | {title} | {' | '.join(cells)} |")
    tiles = found[0].figures["I"][figures[0]].shape[1]
    lines += ["", f"In brackets the 95 % interval of {_RESAMPLES:,} paired resamples of the {tiles} tiles, which stand "
              "side by side and are not independent: the true one is wider.", ""]
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    """(seeds, tiles) as mean and deviation over seeds."""
    means = values.mean(1)
    spread = f" ± {means.std(ddof=1):.3f}" if len(means) > 1 else ""
    return f"{means.mean():.3f}{spread}"


def to_json(found: list[domain_gap.Found]) -> str:
    """All figures, tile by tile."""
    return json.dumps([{"method": each.trial, "models": each.models,
                        "figures": {case: {name: values.tolist() for name, values in rows.items()}
                                    for case, rows in each.figures.items()}} for each in found], indent=1)
