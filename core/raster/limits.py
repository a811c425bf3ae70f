"""How far inputs are trusted."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How far a raster from anybody is trusted."""

    max_pixels: int = 100_000_000_000
    """Height times width."""
    allow_remote: bool = False
    """Whether a VRT may name files on servers."""
    only_below: tuple[str, ...] = ()
    """Files, and folders with all that is in them, that a VRT may name; none: any file."""

    def covers(self, path: str) -> bool:
        """Whether a VRT may name a file, wherever links lead from there."""
        real, places = os.path.realpath(path), map(os.path.realpath, self.only_below)
        return not self.only_below or any(
            real == place or real.startswith(os.path.join(place, "")) for place in places)


STANDARD = Limits()
"""What holds where nobody says anything else."""
