"""What a model says about itself: `manifest.json`, fully checked before anything else of a package is read."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..documents import parse_json, read_text
from ..errors import ModelError
from ..inference.steps import StepTable
from ..inference.tiles import Tiling
from ..networks.latent_sizes import SEEN_BANDS, AutoencoderSpec
from ..reproject.frame import Coordinates
from ..validation import Text, explain
from .normalisers import Normaliser, OutwardNormaliser, Value

FORMAT_VERSION: Literal[1] = 1
MANIFEST, WEIGHTS, AUTOENCODER = "manifest.json", "weights.safetensors", "codec.safetensors"
"""The files of a package."""
OutputType = Literal["same", "uint8", "uint16", "int16", "float32"]
_MOST_BYTES, _MOST_FILES = 4 << 20, 10_000
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}


class BandSpec(BaseModel):
    """One band a model takes or gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text
    unit: Text = ""
    minimum: Value
    """Lowest physical value that makes sense; the range of the training data."""
    maximum: Value
    colour: Text = "undefined"
    """Colour interpretation: red, green, blue, gray or undefined."""


class NetworkSpec(BaseModel):
    """Which network of `NETWORKS`, and its sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sizes: dict[str, int]


class Auxiliary(BaseModel):
    """What the network of one step says besides the latents, in one further channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["confidence"]
    """1 / variance of the noise, as C-DiffSET predicts it."""
    step: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """Everything a model says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    version: Text = "1"
    title: Text
    licence: Text
    bands_in: Annotated[tuple[BandSpec, ...], Field(min_length=1, max_length=65_535)]
    bands_out: Annotated[tuple[BandSpec, ...], Field(min_length=1, max_length=65_535)]
    body: Text | None = None
    """Celestial body the model was trained on; None: any."""
    pixel_size_m: Annotated[float, Field(ge=1e-9, le=1e12)] | None = None
    pixel_size_factor: Annotated[float, Field(ge=1, le=1e9)] = 2.0
    """The model suits pixel sizes within this factor of its own."""
    scale: Annotated[Fraction, Field(ge=1, le=16)] = Fraction(1)
    """Output pixels for each input pixel along an axis; the input is resampled to the output's pixels first."""
    network: NetworkSpec | None = None
    """None for a table that calls no network."""
    coordinates: Coordinates | None = None
    """What the network sees of each pixel's place, in further bands behind the raster's; None: nothing."""
    codec: AutoencoderSpec | None = None
    """What the steps work on, where these are not pixels; sizes of windows stay those of pixels."""
    auxiliary: Auxiliary | None = None
    table: StepTable
    presets: Annotated[tuple[StepTable, ...], Field(max_length=16)] = ()
    """Samplers of other numbers of steps for the same network."""
    normalise_in: Normaliser
    normalise_out: OutwardNormaliser
    margin_px: Annotated[int, Field(ge=0, le=4096)] = 0
    multiple_of: Annotated[int, Field(ge=1, le=256)] = 1
    tile_px: Annotated[int, Field(ge=16, le=65536)] = 512
    overlap_px: Annotated[int, Field(ge=0, le=4096)] = 0
    input_model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)] | None = None
    """The package whose output this one takes, by the name of its folder beside this one's."""
    attends: bool = False
    """Whether the network looks at its whole window; `tile_px` is then fixed."""
    dtype: OutputType = "same"
    recipe: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    training_data: str = ""
    weights_sha256: Text | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.table.uses_network and self.network is None:
            raise ValueError("the step table calls a network but none is named")
        if any(table.steps[0].memory for table in (self.table, *self.presets)):
            raise ValueError("the first step remembers a prediction, and there is none before it")
        if any(table.shown_bands(1, 2) != self.table.shown_bands(1, 2) for table in self.presets):
            raise ValueError("a preset shows the network other bands than the step table does")
        if self.auxiliary and (self.codec is None or self.auxiliary.step >= len(self.table.steps)
                               or not self.table.steps[self.auxiliary.step].c_out):
            raise ValueError("auxiliary comes of a step that calls a network on latents, and there is none such")
        for bands, normaliser in ((self.bands_in, self.normalise_in), (self.bands_out, self.normalise_out)):
            given = next((getattr(normaliser, name) for name in ("minimum", "mean", "bias")
                          if hasattr(normaliser, name)), None)
            if given is not None and len(given) != len(bands):
                raise ValueError(f"a normaliser has {len(given)} bands where {len(bands)} are declared")
        sizes = self.network.sizes if self.network else {}
        for key, count in zip(("bands_in", "bands_out"), self.channels):
            if sizes.get(key, count) != count:
                raise ValueError(f"the network's {key} is {sizes[key]} where the bands declared make {count}")
        if self.coordinates and not self.table.uses_network:
            raise ValueError("coordinates are for a network, and the step table calls none")
        if self.codec:
            self._check_codec(self.codec)
        elif self.source_bands != len(self.bands_out) and self.table.mixes_input_and_output:
            raise ValueError(f"the step table mixes {self.source_bands} bands in with {len(self.bands_out)} bands out")
        return self

    def _check_codec(self, codec: AutoencoderSpec) -> None:
        if len(self.bands_out) != SEEN_BANDS or {len(row) for row in codec.mix} != {len(self.bands_in)}:
            raise ValueError(f"the autoencoder gives {SEEN_BANDS} bands and mixes {len(codec.mix[0])}, and "
                             f"{len(self.bands_out)} and {len(self.bands_in)} are declared")
        if self.coordinates:
            raise ValueError("coordinates are those of pixels, and the network works on latents")
        if self.multiple_of % codec.factor:
            raise ValueError(f"multiple_of must be whole latents of {codec.factor} pixels")

    @property
    def source_bands(self) -> int:
        """Of the raster, and of its pixels' coordinates."""
        return len(self.bands_in) + (len(self.coordinates.names) if self.coordinates else 0)

    @property
    def channels(self) -> tuple[int, int]:
        """Of what the network sees and of what it gives."""
        source, made = self.source_bands, len(self.bands_out)
        if self.codec:
            source = made = self.codec.sizes.latents
        return self.table.shown_bands(source, made), made + bool(self.auxiliary)

    @property
    def keeps_bands(self) -> bool:
        """Whether it gives the very bands that it takes, in the same units and in about the same range."""
        return len(self.bands_in) == len(self.bands_out) and all(map(_alike, self.bands_in, self.bands_out))

    @property
    def state_bands(self) -> int:
        """Of the first state."""
        if self.codec:
            return self.codec.sizes.latents
        return self.table.state_bands(self.source_bands, len(self.bands_out))

    def tiling(self, tile: int | None = None, overlap: int | None = None) -> Tiling:
        """The windows this model runs on; `tile` and `overlap` in pixels override its own.

        Raises:
            ModelError: if the model's tile is fixed and another is asked for.
        """
        if self.attends and tile not in (None, self.tile_px):
            raise ModelError(f"Model {self.name} looks at its whole window of {self.tile_px} pixels: "
                             f"--tile {tile} would change the result. Leave --tile out.")
        tile = self.tile_px if tile is None else tile
        overlap = min(self.overlap_px, tile // 2) if overlap is None else overlap
        return Tiling(tile, overlap, self.margin_px, self.multiple_of, self.attends)


def _alike(one: BandSpec, other: BandSpec) -> bool:
    """Whether numbers of one band may stand for those of the other."""
    shared = min(one.maximum, other.maximum) - max(one.minimum, other.minimum)
    widest = max(band.maximum - band.minimum for band in (one, other))
    return (one.name, one.unit) == (other.name, other.unit) and shared >= widest / 2


def read_manifest(path: Path) -> Manifest:
    """The manifest of a package, or a ModelError that names the key at fault."""
    try:
        content = parse_json(read_text(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}): get the package again.") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelError(f"{path} is of format {version}, and this geoi2i reads up to {FORMAT_VERSION}: "
                         "update geoi2i.")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{path}: {explain(error, Manifest)}") from error


def read_folder(folder: Path) -> Manifest:
    """The manifest of a model's folder, which holds nothing that could run; its weights are not read.

    Raises:
        ModelError: if there is no such folder, or it holds a pickle, or its manifest is wrong.
    """
    if not os.path.isdir(folder):
        raise ModelError(f"{folder} is not a model folder: name a folder with {MANIFEST} and {WEIGHTS}, "
                         "or a model that `geoi2i models list` shows.")
    try:
        if not os.path.lexists(folder / MANIFEST):
            raise ModelError(f"{folder} has no {MANIFEST}: name a model folder, or get the package again.")
        _refuse_pickles(folder)
        return read_manifest(folder / MANIFEST)
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> ModelError:
    """What to say of a file of a model that the system does not give."""
    return ModelError(f"{error.filename} cannot be read ({error.strerror}): check its permissions.")


def _refuse_pickles(folder: Path) -> None:
    for path in _files(folder):
        # A safetensors file begins with a length, which may look like anything; `check_weights` reads it.
        checked = path in (folder / WEIGHTS, folder / AUTOENCODER)
        if path.suffix.lower() in _PICKLES or (not checked and _looks_pickled(path)):
            raise ModelError(f"{path} can carry code (a pickle): geoi2i loads safetensors only. "
                             "Remove the file if you trust the rest.")


def _files(folder: Path) -> Iterator[Path]:
    """The plain files of a folder and of those inside, links to folders left out."""
    waiting, seen = [folder], 0
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if (seen := seen + 1) > _MOST_FILES:
                raise ModelError(f"{folder} holds more than {_MOST_FILES} files: name the folder of one model.")
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            elif path.is_file():
                yield path


def _looks_pickled(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(2)
    return start == b"PK" or (len(start) == 2 and start[0] == 0x80 and start[1] <= 5)
