"""From the pixels of one grid to those of another: PROJ at a few points, polynomials between, a stated error.

A patch of the target is covered by a product of Chebyshev polynomials through PROJ's answers. The answers at
further points inside the patch are compared with the polynomial; where they differ by more than the
tolerance the patch is cut in four, and small patches ask PROJ for every pixel.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid, Window
from .coordinates import between, check_crs, period_of

_NODES = 10
_EXACT_PX = 16
_BLIND_PX = 64
_SPREAD = 65
_SAFETY = 0.25  # between the points that are checked the error is somewhat larger than at them


class PixelMap:
    """Where the pixels of `target` lie in `source`.

    Positions count in pixels from the corner of the first pixel, so that pixel (row, col) covers
    [col, col+1] x [row, row+1], as in GDAL.
    """

    def __init__(self, target: Grid, source: Grid):
        """Raises RasterError where one grid alone has no CRS, or they show different bodies."""
        if source.crs or target.crs:  # neither: pixels of one picture, cut finer say
            check_crs(source, target)
        self.target, self.source = target, source
        self._to_source = between(target, source)
        self.period = period_of(source)
        """Columns of the source after which the longitude comes round again; None where it does not."""

    def exact(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source (col, row), float64, of target positions; NaN where a projection does not reach."""
        x, y = self._to_source(*(self.target.transform * (col, row)))
        x, y = (np.where(np.isfinite(x) & np.isfinite(y), value, np.nan) for value in (x, y))
        return ~self.source.transform * (x, y)

    def meet(self) -> bool:
        """Whether the rasters show common ground, at one of some thousand points of either."""
        return self._reaches() or PixelMap(self.source, self.target)._reaches()

    def _reaches(self) -> bool:
        """Whether points of the target, spread over all of it and its border, lie in the source."""
        col, row = (values.ravel() for values in np.meshgrid(np.linspace(0, self.target.width, _SPREAD),
                                                             np.linspace(0, self.target.height, _SPREAD)))
        col, row = self.exact(col, row)
        if self.period:
            col = np.mod(col, self.period)
        return bool(((col > 0) & (col < self.source.width) & (row > 0) & (row < self.source.height)).any())

    def positions(self, window: Window, tolerance_px: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Source (col, row), each (h,w) float64, of the pixel centres of a window of the target.

        Where longitudes come round, columns run on beyond the raster instead of jumping back, and may so
        be negative or more than the width: take them modulo `period`.
        """
        col, row = (values.numpy() for values in self._filled(window, tolerance_px, "cpu"))
        if self.period:
            known = col[np.isfinite(col)]
            if known.size:
                col -= self.period * np.floor(np.median(known) / self.period)
        return col, row

    def positions_on(self, device: torch.device, window: Window, tolerance_px: float = 0.05) -> tuple[Tensor, Tensor]:
        """As `positions`, as tensors that are made on a device: only PROJ's answers are copied there."""
        col, row = self._filled(window, tolerance_px, device)
        if self.period:
            known = col[torch.isfinite(col)]
            if known.numel():
                col -= self.period * math.floor(float(known.median()) / self.period)
        return col, row

    def _filled(self, window: Window, tolerance_px: float, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Source (col, row) of a window, columns near each other but turns away from where they are counted."""
        col, row = torch.full((2, window.height, window.width), math.nan, dtype=torch.float64, device=device)
        self._fill(col, row, window.col, window.row, tolerance_px)
        return col, row

    def _fill(self, col: Tensor, row: Tensor, left: int, top: int, tolerance_px: float,
              near: float | None = None) -> None:
        """Positions of a patch, written into views `col` and `row`."""
        height, width = col.shape
        if min(height, width) <= _EXACT_PX:
            columns, rows = np.meshgrid(left + np.arange(width) + 0.5, top + np.arange(height) + 0.5)
            u, v = self.exact(columns.ravel(), rows.ravel())
            for values, out in ((self._round(u, near), col), (v, row)):
                out.copy_(torch.from_numpy(values.reshape(out.shape)))
            return
        across, down = _polynomials(width), _polynomials(height)
        nodes, checks = np.meshgrid(left + across.nodes, top + down.nodes), np.meshgrid(
            left + across.checks, top + down.checks)
        u, v = self.exact(*(np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(nodes, checks)))
        u = self._round(u, near)
        near = near if near is not None else np.nanmedian(u) if np.isfinite(u).any() else None
        if not np.isfinite(u).any() and max(height, width) <= _BLIND_PX:
            return
        split = _NODES**2
        if np.isfinite(u).all():
            node_u, node_v = (values[:split].reshape(_NODES, _NODES) for values in (u, v))
            checked = (down.at_checks @ node @ across.at_checks.T for node in (node_u, node_v))
            error = max(np.abs(a.ravel() - b[split:]).max() for a, b in zip(checked, (u, v)))
            if error <= _SAFETY * tolerance_px:
                # torch's product: NumPy's would start threads of its own in every worker.
                left_factor, node_u, node_v, right_factor = (
                    torch.from_numpy(values).to(col.device) for values in (down.at_pixels, node_u, node_v,
                                                                           across.at_pixels))
                for node, out in ((node_u, col), (node_v, row)):
                    out.copy_(left_factor @ node @ right_factor.T)
                return
        for part_row in (slice(0, height // 2), slice(height // 2, height)):
            for part_col in (slice(0, width // 2), slice(width // 2, width)):
                self._fill(col[part_row, part_col], row[part_row, part_col], left + part_col.start,
                           top + part_row.start, tolerance_px, near)

    def _round(self, col: np.ndarray, near: float | None) -> np.ndarray:
        """Columns brought within half a turn of `near`, or of their own median."""
        if self.period is None or not np.isfinite(col).any():
            return col
        near = np.nanmedian(col) if near is None else near
        return col - self.period * np.round((col - near) / self.period)


class _Polynomials:
    """Chebyshev interpolation over [0, size]: nodes, points to check at, and the matrices that go there."""

    def __init__(self, size: int):
        k = np.arange(_NODES)
        self._at = np.cos((2 * k + 1) * np.pi / (2 * _NODES))
        self._weights = (-1.0) ** k * np.sin((2 * k + 1) * np.pi / (2 * _NODES))
        checks = np.linspace(-1, 1, _NODES + 1)
        self.nodes, self.checks = (self._at + 1) / 2 * size, (checks + 1) / 2 * size
        self.at_checks = self._matrix(checks)
        self.at_pixels = self._matrix((np.arange(size) + 0.5) / size * 2 - 1)

    def _matrix(self, points: np.ndarray) -> np.ndarray:
        """Barycentric interpolation (Berrut and Trefethen 2004, eq. 4.2) from the nodes to `points`."""
        distance = points[:, None] - self._at
        hit = np.abs(distance) < 1e-14
        terms = self._weights / np.where(hit, 1, distance)
        terms[hit.any(1)] = 0
        terms[hit] = 1
        return terms / terms.sum(1, keepdims=True)


_polynomials = lru_cache(maxsize=64)(_Polynomials)
