"""Small charts as SVG text, drawn with nothing but numbers, for a page that needs no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 38


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str
    """A class of the page's style sheet."""


def chart(lines: Sequence[Line], x_label: str, y_label: str, x_log: bool = False, y_log: bool = False,
          bands: Sequence[tuple[float, float, str]] = (), height: int = 240, x_range: tuple[float, float] | None = None,
          title: str = "") -> str:
    """An SVG of curves over common axes, 420 units wide.

    Args:
        bands: parts of the x axis that are marked: from, to, name.
    """
    width = 420
    xs, ys = (np.concatenate([np.asarray(getattr(line, axis), float) for line in lines]) for axis in "xy")
    ok = np.isfinite(xs) & np.isfinite(ys) & ((ys > 0) | (not y_log)) & ((xs > 0) | (not x_log))
    if not ok.any():
        return ""
    low, high = x_range or (xs[ok].min(), xs[ok].max())
    x_axis = _Axis(low, high, x_log, _LEFT, width - _RIGHT)
    y_axis = _Axis(ys[ok].min() if y_log else min(0.0, ys[ok].min()), ys[ok].max(), y_log, height - _BOTTOM, _TOP)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title or y_label)}">']
    for low, high, name in bands:
        a, b = x_axis.at(low), x_axis.at(high)
        parts.append(f'<rect class="mark" x="{a:.1f}" y="{_TOP}" width="{b - a:.1f}" '
                     f'height="{height - _TOP - _BOTTOM}"/><text class="small" x="{(a + b) / 2:.1f}" y="{_TOP + 11}" '
                     f'text-anchor="middle">{escape(name)}</text>')
    for value in x_axis.ticks():
        parts.append(f'<line class="grid" x1="{x_axis.at(value):.1f}" x2="{x_axis.at(value):.1f}" y1="{_TOP}" '
                     f'y2="{height - _BOTTOM}"/><text class="small" x="{x_axis.at(value):.1f}" '
                     f'y="{height - _BOTTOM + 13}" text-anchor="middle">{_number(value)}</text>')
    for value in y_axis.ticks():
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y_axis.at(value):.1f}" '
                     f'y2="{y_axis.at(value):.1f}"/><text class="small" x="{_LEFT - 5}" y="{y_axis.at(value) + 3:.1f}" '
                     f'text-anchor="end">{_number(value)}</text>')
    for line in lines:
        points = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in zip(line.x, line.y)
                          if math.isfinite(x) and math.isfinite(y) and (y > 0 or not y_log) and (x > 0 or not x_log))
        parts.append(f'<polyline class="curve {line.style}" points="{points}"/>')
    parts.append(f'<text class="small" x="{(_LEFT + width - _RIGHT) / 2}" y="{height - 8}" text-anchor="middle">'
                 f'{escape(x_label)}</text><text class="small" transform="translate(11 {(height - _BOTTOM + _TOP) / 2})'
                 f' rotate(-90)" text-anchor="middle">{escape(y_label)}</text></svg>')
    return "".join(parts)


def steps(edges: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outline of a histogram as a curve."""
    return np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)


class _Axis:
    """Values to places on the page."""

    def __init__(self, low: float, high: float, log: bool, start: float, end: float):
        self.log = log
        if high <= low:
            low, high = (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * min(max((value - low) / (high - low), -0.02), 1.02)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.log10(self.low), math.log10(self.high)
            if last - first < 1.8:
                some = [m * 10.0**e for e in range(math.floor(first), math.ceil(last) + 1) for m in (1, 2, 5)]
            else:
                every = max(1, round((last - first) / 5))
                some = [10.0**e for e in range(math.ceil(first), math.floor(last) + 1, every)]
        else:
            step = 10.0 ** math.floor(math.log10((self.high - self.low) / 3))
            step *= next(m for m in (5, 2, 1) if (self.high - self.low) / (step * m) >= 3 or m == 1)
            some = [k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        return [v for v in some if self.low * (1 - 1e-9) - 1e-12 <= v <= self.high * (1 + 1e-9) + 1e-12]


def _number(value: float) -> str:
    text = f"{value:.6g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.0e}"
    return text.replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
