"""GDAL's creation options, those that hold for a Cloud Optimized GeoTIFF that is written strip by strip."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import RasterError, shorten

_LEVELS = {"DEFLATE": "ZLEVEL", "ZSTD": "ZSTD_LEVEL"}
_PREDICTED = ("LZW", "DEFLATE", "ZSTD")
ALLOWED = {
    "COMPRESS": ("NONE", "PACKBITS", "LZW", "DEFLATE", "ZSTD"), "PREDICTOR": ("1", "2", "3"),
    "ZLEVEL": tuple(map(str, range(1, 10))), "ZSTD_LEVEL": tuple(map(str, range(1, 23))),
    **dict.fromkeys(("BLOCKSIZE", "BLOCKXSIZE", "BLOCKYSIZE"), ("128", "256", "512")),
    "BIGTIFF": ("IF_NEEDED", "IF_SAFER", "YES"),
    "TILED": ("YES",), "INTERLEAVE": ("PIXEL",), "NUM_THREADS": ("ALL_CPUS",)}
"""Name -> values; the last three are what is done anyway. Blocks divide a strip, whose rows are a multiple of 512."""
_SAFE_BYTES = 2 << 30
"""Up to which GDAL's IF_SAFER takes it that a classic TIFF can hold what it compresses."""


@dataclass(frozen=True)
class CreationOptions:
    """How the tiles of an output are coded. No pixel depends on it."""

    compress: str = "ZSTD"
    level: int | None = None
    """Of ZSTD, by default 1, or DEFLATE, by default GDAL's."""
    predictor: int | None = None
    """1: none, 2: differences, 3: differences of floating numbers; None: 3 for those, else 2."""
    block: int = 512
    """Side of the tiles in pixels."""
    bigtiff: str = "IF_NEEDED"

    @classmethod
    def parse(cls, given: Iterable[str]) -> "CreationOptions":
        """From texts `NAME=VALUE`, in any case; of one name the last.

        Raises:
            RasterError: for a name or a value that is not in `ALLOWED`, and for options that exclude each other.
        """
        chosen = dict(map(_pair, given))
        compress = chosen.get("COMPRESS", cls.compress)
        for method, name in _LEVELS.items():
            if name in chosen and compress != method:
                raise RasterError(f"--creation-option {name} goes with COMPRESS={method}: give that too, or leave it "
                                  "out.")
        if chosen.get("PREDICTOR", "1") != "1" and compress not in _PREDICTED:
            raise RasterError(f"--creation-option PREDICTOR goes with COMPRESS={', '.join(_PREDICTED)}: give one of "
                              "them, or leave it out.")
        square = chosen.get("BLOCKSIZE", str(cls.block))
        across, down = (chosen.get(name, square) for name in ("BLOCKXSIZE", "BLOCKYSIZE"))
        if across != down or across != chosen.get("BLOCKSIZE", across):
            raise RasterError("Tiles are square: give --creation-option BLOCKSIZE, or BLOCKXSIZE and BLOCKYSIZE of one "
                              "value.")
        level, predictor = chosen.get(_LEVELS.get(compress, "")), chosen.get("PREDICTOR")
        return cls(compress, int(level) if level else None, int(predictor) if predictor else None, int(across),
                   chosen.get("BIGTIFF", cls.bigtiff))

    def check(self, dtype: str, bits: int | None) -> None:
        """Raises RasterError where an output of this dtype, or of so many bits a sample, cannot be coded so."""
        if self.predictor == 3 and not dtype.startswith("f"):
            raise RasterError(f"--creation-option PREDICTOR=3 is for floating point, and the output is {dtype}: give "
                              "PREDICTOR=2, or leave it out.")
        if self.predictor == 2 and bits:
            raise RasterError(f"--creation-option PREDICTOR=2 is for whole bytes, and the output has {bits} bits a "
                              "sample, as its input: leave it out.")

    def tiles(self, dtype: str, bits: int | None) -> dict[str, str | int]:
        """What GDAL is told of the tiles of a file.

        Args:
            bits: of a sample, where these are fewer than the dtype's; None: as many.
        """
        told: dict[str, str | int] = dict(
            tiled=True, blockxsize=self.block, blockysize=self.block, compress=self.compress.lower(),
            interleave="pixel", num_threads="all_cpus", endianness="little", bigtiff="if_safer")
        if self.compress == "ZSTD" or self.level:
            told[_LEVELS[self.compress].lower()] = self.level or 1
        if bits:
            told["nbits"] = bits
        elif self.compress in _PREDICTED:
            told["predictor"] = self.predictor or (3 if dtype.startswith("f") else 2)
        return told

    def asks_for_big(self, raw_bytes: int) -> bool:
        """Whether a BigTIFF is wanted, for pixels of so many bytes, also where a classic TIFF has room."""
        return self.bigtiff == "YES" or (self.bigtiff == "IF_SAFER" and raw_bytes > _SAFE_BYTES)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What is asked for, by a name that a person knows; JSON."""
        return {} if self == STANDARD else {"creation options": asdict(self)}


STANDARD = CreationOptions()


def _pair(text: str) -> tuple[str, str]:
    """NAME and VALUE, of those that are allowed."""
    name, equals, value = (part.strip().upper() for part in text.partition("="))
    if name not in ALLOWED or not equals:
        known = ", ".join(ALLOWED)
        raise RasterError(f"--creation-option {shorten(text)} is not one of the options that are written: give NAME="
                          f"VALUE, with {known}.")
    if value not in ALLOWED[name]:
        values = f"{ALLOWED[name][0]} to {ALLOWED[name][-1]}" if name in _LEVELS.values() else ", ".join(ALLOWED[name])
        raise RasterError(f"--creation-option {name} takes {values} (got {shorten(value)}): give one of these.")
    return name, value
