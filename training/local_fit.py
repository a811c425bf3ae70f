"""`fit local`: a gain and an offset for each band that change smoothly over the map.

    y = g(place) x + o(place)      g, o bilinear between the nodes of a coarse grid

Of all such fields the one is solved for that leaves the least squares, neighbouring nodes being held together:

    sum over pixels (y - g x - o)^2  +  smoothing * pixels per node * sum over neighbours ((g - g')^2 + (o - o')^2)

with x and y in standard deviations. Nodes over few or flat pixels so take their values from their neighbours, and an
affine map is found whatever the smoothing, for differences from the fit of all pixels are solved for.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import ValidationError

from ..core.errors import RecipeError
from ..core.networks.closed_form import LocalLinear, LocalSizes
from ..core.raster.rows import SeekableRaster
from ..core.reproject.coordinate_bands import coordinates_on, frame_around
from ..core.reproject.frame import Coordinates, Frame
from ..core.reproject.target_grid import target_grid
from ..core.validation import explain
from .closed_forms import Fit, Sides, normaliser
from .sweeps import MeanCovariance, check_pairs, overlap, paired_blocks, standard

CELLS, SMOOTHING = 8, 0.1
_RIDGE = 1e-6
"""Weight, in pixels of a node, with which gains and offsets stay at those of all pixels where nothing else holds them.
"""


def fit_local(sides: Sides, cells: int = CELLS, smoothing: float = SMOOTHING) -> Fit:
    """Gains and offsets on a grid over what the pairs share.

    Args:
        cells: of the grid along its longer side, at least 1.
        smoothing: how strongly neighbouring nodes are held together, in pixels of a node; at least 0.

    Raises:
        RecipeError: for other numbers of bands on one side, rasters that do not pair up or whose pixels do not align,
            and too few pixels.
    """
    sides.check_alike("local")
    check_pairs(sides.sources, sides.targets)
    source, target = sides.colours()
    frame = _frame(sides.sources, sides.targets)
    width, height = frame.right - frame.left, frame.top - frame.bottom
    shape = tuple(1 + max(1, round(cells * side / max(width, height))) for side in (height, width))
    coordinates = Coordinates(names=("map_x", "map_y"), frame=frame)
    sums = _Sums(len(source.mean), *shape)
    for raster, other in zip(sides.sources, sides.targets):
        _gather(sums, raster, other, coordinates, source, target)
    if sums.count < 2 * sums.nodes:
        raise RecipeError(f"{sides.targets[0].path} and its source share {sums.count} usable pixels for a grid of "
                          f"{shape[0]} x {shape[1]} gains and offsets: lower --cells, or choose rasters that overlap "
                          "more.")
    network = LocalLinear(LocalSizes(bands_in=len(source.mean) + 2, bands_out=len(source.mean), rows=shape[0],
                                     cols=shape[1]))
    solved = np.stack([sums.solve(band, smoothing) for band in range(len(source.mean))])
    network.load_solution(*torch.from_numpy(solved).unbind(1))
    return Fit(normaliser(source), normaliser(target), network, coordinates=coordinates)


def _frame(sources: Sequence[SeekableRaster], targets: Sequence[SeekableRaster]) -> Frame:
    """Around what the pairs share, in the CRS of the first; around the sources where that is nothing.

    Raises:
        RecipeError: for rasters whose place cannot be put into a manifest.
    """
    windows = [overlap(raster, other)[0] for raster, other in zip(sources, targets)]
    grids = [raster.grid.crop(window) if window.height and window.width else raster.grid
             for raster, window in zip(sources, windows)]
    first = grids[0]
    try:
        return frame_around([grid if grid.crs == first.crs else target_grid(grid, first) for grid in grids])
    except ValidationError as error:
        raise RecipeError(f"The place of {sources[0].path} cannot be kept in a model: "
                          f"{explain(error, Frame)}") from error


class _Sums:
    """Sums over the pixels of each cell from which the fields are solved.

    The terms of a cell are the shares of its four nodes (upper left, upper right, lower left, lower right) for the
    offset, and the shares times x for the gain.
    """

    def __init__(self, bands: int, rows: int, cols: int):
        self.shape, self.nodes, self.count = (rows, cols), rows * cols, 0
        self.xx = np.zeros((bands, rows - 1, cols - 1, 8, 8))
        self.xy = np.zeros((bands, rows - 1, cols - 1, 8))

    def add(self, down: np.ndarray, right: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """Adds pixels x, y (C,n) at the places `down` and `right` (n,), in cells from the first node."""
        self.count += len(down)
        row, col = (np.clip(place.astype(np.int64), 0, size - 2) for place, size in zip((down, right), self.shape))
        cell = row * (self.shape[1] - 1) + col
        order = np.argsort(cell, kind="stable")
        found, starts = np.unique(cell[order], return_index=True)
        down, right = np.clip(down - row, 0, 1), np.clip(right - col, 0, 1)
        shares = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
        for place, chosen in zip(found, np.split(order, starts[1:])):
            here = np.unravel_index(place, self.xy.shape[1:3])
            part = shares[:, chosen]
            for band in range(len(x)):
                terms = np.concatenate([part, part * x[band, chosen]])
                self.xx[band, *here] += terms @ terms.T
                self.xy[band, *here] += terms @ y[band, chosen]

    def solve(self, band: int, smoothing: float) -> np.ndarray:
        """Gains and offsets (2,rows,cols) of a band."""
        xx, xy = self.xx[band], self.xy[band]
        # The shares of a pixel add up to 1: what is left of the terms without them is 1 and x.
        whole = np.kron(np.eye(2), np.ones(4))
        both = whole @ xx.sum((0, 1)) @ whole.T
        same = np.linalg.solve(both + 1e-12 * self.count * np.diag([0, 1]), whole @ xy.sum((0, 1)))
        left = xy - xx @ (same @ whole)
        offset, gain = self._differences(xx, left, smoothing) + same[:, None, None]
        return np.stack([gain, offset])

    def _differences(self, xx: np.ndarray, xy: np.ndarray, smoothing: float) -> np.ndarray:
        """Offsets and gains (2,rows,cols), less those of all pixels.

        The equations of a row of nodes hold those of the rows above and below, too: the matrix is block tridiagonal,
        and rows are eliminated from the top.
        """
        (rows, cols), weight = self.shape, self.count / self.nodes
        size = 2 * cols
        diagonal, beside = np.zeros((rows, size, size)), np.zeros((rows, size, size))
        wanted = np.zeros((rows, size))
        each = np.arange(rows - 1)
        upper, lower = np.array([[0, 1, 4, 5], [2, 3, 6, 7]])  # terms of a cell's upper and lower nodes
        for col in range(cols - 1):
            there = np.array([col, col + 1, cols + col, cols + col + 1])
            for first, terms in ((0, upper), (1, lower)):
                diagonal[np.ix_(each + first, there, there)] += xx[:, col][np.ix_(each, terms, terms)]
                wanted[np.ix_(each + first, there)] += xy[:, col, terms]
            beside[np.ix_(each, there, there)] += xx[:, col][np.ix_(each, upper, lower)]
        held = smoothing * weight
        chain = 2 * np.eye(cols) - np.eye(cols, k=1) - np.eye(cols, k=-1)
        chain[0, 0] = chain[-1, -1] = 1
        diagonal += held * np.kron(np.eye(2), chain) + _RIDGE * weight * np.eye(size)
        across = held * np.eye(size)
        diagonal[:-1] += across
        diagonal[1:] += across
        beside[:-1] -= across
        for row in range(1, rows):
            factor = np.linalg.solve(diagonal[row - 1], beside[row - 1]).T
            diagonal[row] -= factor @ beside[row - 1]
            wanted[row] -= factor @ wanted[row - 1]
        made = np.zeros((rows, size))
        for row in reversed(range(rows)):
            below = beside[row] @ made[row + 1] if row + 1 < rows else 0
            made[row] = np.linalg.solve(diagonal[row], wanted[row] - below)
        return made.reshape(rows, 2, cols).swapaxes(0, 1)


def _gather(sums: _Sums, raster: SeekableRaster, other: SeekableRaster, coordinates: Coordinates,
            source: MeanCovariance, target: MeanCovariance) -> None:
    """Adds what a pair shares."""
    positions, (rows, cols) = coordinates_on(raster.grid, coordinates), sums.shape
    for block in paired_blocks(raster, other, scale=1, reach=0):
        usable = block.valid & block.known
        across, up = positions(block.place)[:, usable].astype(float)
        x, y = (standard(pixels, found).numpy()[:, usable]
                for pixels, found in ((block.pixels, source), (block.wanted, target)))
        sums.add((1 - up) / 2 * (rows - 1), (across + 1) / 2 * (cols - 1), x, y)
