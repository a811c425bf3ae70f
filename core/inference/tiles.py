"""Windows over one axis of a raster: on the stride lattice, all of one length, reflected at the border.

    |<------ length ------>|
    0        step                            size
    |---------|============|---------|============|........|     ==== overlap (blended)
                                                   ^ filled by reflection, never shifted back

A window is read with `margin` further pixels on both sides; margin is context that is thrown away.
"""

from dataclasses import dataclass
from functools import cached_property

from ..errors import RasterError


@dataclass(frozen=True)
class Tiling:
    """How a raster is cut into windows; lengths in pixels, the same for rows and columns."""

    tile: int
    overlap: int
    margin: int
    multiple: int
    fixed: bool = False
    """True where the network attends over its whole window: `tile` is then used as it is."""

    def __post_init__(self):
        if self.tile < 1 or self.overlap < 0:
            raise RasterError("--tile must be at least 1 and --overlap at least 0 "
                              f"(got {self.tile} and {self.overlap}).")
        if 2 * self.overlap > self.tile:
            raise RasterError(f"An overlap of {self.overlap} pixels is more than half of the "
                              f"{self.tile}-pixel tile: use --overlap {self.tile // 2} or a larger --tile.")

    @cached_property
    def lattice_margin(self) -> int:
        """The margin rounded up to the stride lattice."""
        return _up(self.margin, self.multiple)

    @cached_property
    def lattice_overlap(self) -> int:
        """The overlap rounded up to the stride lattice."""
        return _up(self.overlap, self.multiple)

    def spans(self, size: int) -> list["Span"]:
        """The windows along one axis, first to last; together they cover [0, size)."""
        overlap = self.lattice_overlap
        longest = max(_up(self.tile, self.multiple), 2 * overlap)
        length = longest if self.fixed else _even_length(size, longest, overlap, self.multiple)
        starts = [0]
        while starts[-1] + length < size:
            starts.append(starts[-1] + length - overlap)
        return [Span(start, length, min(start + length, size)) for start in starts]


@dataclass(frozen=True)
class Span:
    """One window along an axis: `start`, its full `length`, and `stop`, where the raster or it ends."""

    start: int
    length: int
    stop: int


def _even_length(size: int, longest: int, overlap: int, multiple: int) -> int:
    """The shortest length that needs no more windows than `longest` does: the last is not mostly empty."""
    if size <= longest:
        return _up(size, multiple)
    count = -(-(size - overlap) // (longest - overlap))
    return min(longest, max(_up(-(-(size + (count - 1) * overlap) // count), multiple), 2 * overlap))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
