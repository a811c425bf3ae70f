"""Where pixels are, as further bands that a network sees behind those of the raster: places on a map, latitudes."""

from collections.abc import Callable

import numpy as np
from affine import Affine

from ..errors import RasterError
from ..grid import Grid, Window, parse_crs
from .coordinates import between, check_map, to_planetocentric, turn_of
from .frame import ON_A_MAP, Coordinates, Frame

_CHUNK_PX = 1 << 18
_LOOK_PX = 65
"""Points along an axis at which it is asked whether a raster lies in a frame."""
Positions = Callable[[Window], np.ndarray]
"""The coordinate bands (K,h,w), float32, of a window of a grid's pixels, which may reach beyond it. They depend on the
place of a pixel alone. Where a projection does not reach they are 0."""


def frame_around(grids: list[Grid]) -> Frame:
    """The one that holds the pixels of all of some grids of one CRS."""
    corners = [grid.transform * (col, row) for grid in grids for col in (0, grid.width) for row in (0, grid.height)]
    xs, ys = zip(*corners)
    first = grids[0]
    return Frame(crs=first.crs, latitude=first.latitude, longitude=first.longitude, left=min(xs), bottom=min(ys),
                 right=max(xs), top=max(ys))


def grid_of(frame: Frame) -> Grid:
    """A frame as one pixel."""
    transform = Affine(frame.right - frame.left, 0, frame.left, 0, frame.bottom - frame.top, frame.top)
    return Grid(frame.crs, transform, 1, 1, frame.latitude, frame.longitude)


def coordinates_on(grid: Grid, coordinates: Coordinates) -> Positions:
    """What gives the coordinate bands of a grid's pixels.

    Raises:
        RasterError: for a grid without a CRS, or of another body than the frame's.
    """
    ways = _ways(grid, coordinates)

    def positions(window: Window) -> np.ndarray:
        made = np.empty((len(coordinates.names), window.height, window.width), np.float32)
        cols = np.arange(window.col, window.col + window.width) + 0.5
        step = max(1, _CHUNK_PX // max(1, window.width))
        for first in range(0, window.height, step):
            rows = np.arange(first, min(first + step, window.height)) + window.row + 0.5
            # Each number is made of its row and its column, however the rows are cut.
            x, y = grid.transform * np.meshgrid(cols, rows)
            found = {name: value for way in ways for name, value in way(x, y).items()}
            for band, name in zip(made, coordinates.names):
                band[first : first + step] = np.nan_to_num(found[name], nan=0.0, posinf=0.0, neginf=0.0)
        return made

    return positions


def share_outside(grid: Grid, coordinates: Coordinates) -> float:
    """About how much of a grid, 0 to 1, lies outside the frame in which map_x and map_y are counted; 0 without one."""
    if coordinates.frame is None:
        return 0.0
    place = _on_map(grid, coordinates.frame)
    x, y = place(*(grid.transform * np.meshgrid(np.linspace(0, grid.width, _LOOK_PX),
                                                np.linspace(0, grid.height, _LOOK_PX)))).values()
    edge = 1 + 1e-6
    return float(1 - ((abs(x) <= edge) & (abs(y) <= edge)).mean())


Way = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Map positions of a grid -> coordinates by their names."""


def _ways(grid: Grid, coordinates: Coordinates) -> list[Way]:
    ways: list[Way] = [_on_map(grid, coordinates.frame)] if coordinates.frame else []
    if any(name not in ON_A_MAP for name in coordinates.names):
        crs = parse_crs(grid.crs)
        if crs is None:
            raise RasterError(f"The model takes {', '.join(coordinates.names)} of every pixel, and the raster has no "
                              "CRS: assign one first, for example with gdal_edit -a_srs.")
        check_map(crs, "of the raster")
        ways.append(_on_globe(grid))
    return ways


def _on_map(grid: Grid, frame: Frame) -> Way:
    """Positions in a frame; longitudes are counted so that they are near its middle."""
    theirs = grid_of(frame)
    if bool(grid.crs) != bool(theirs.crs):
        have, want = ("a CRS", "no CRS") if grid.crs else ("no CRS", "a CRS")
        raise RasterError(f"The model counts positions on rasters with {want}, and the raster has {have}: correct it "
                          "with gdal_edit -a_srs, or choose another model.")
    crs = parse_crs(grid.crs)
    if crs is not None:
        check_map(crs, "of the raster")
        if theirs.body and grid.body and theirs.body != grid.body:
            raise RasterError(f"The model counts positions on {theirs.body}, and the raster shows {grid.body}: choose "
                              "another model.")
    convert, turn = between(grid, theirs), crs and turn_of(parse_crs(frame.crs))
    middle = (frame.left + frame.right) / 2, (frame.bottom + frame.top) / 2
    half = (frame.right - frame.left) / 2, (frame.top - frame.bottom) / 2

    def way(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            right, up = (np.asarray(value) - mid for value, mid in zip(convert(x, y), middle))
            if turn:
                right = right - turn.width * np.round(right / turn.width)
            return {"map_x": right / half[0], "map_y": up / half[1]}

    return way


def _on_globe(grid: Grid) -> Way:
    """Functions of longitude and latitude."""
    to_lonlat = to_planetocentric(grid)

    def way(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            longitude, latitude = (np.radians(value) for value in to_lonlat(x, y))
            return {"latitude": latitude / (np.pi / 2), "sin_latitude": np.sin(latitude),
                    "cos_latitude": np.cos(latitude), "sin_longitude": np.sin(longitude),
                    "cos_longitude": np.cos(longitude)}

    return way
