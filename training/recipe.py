"""Recipes: what to train on, with what, for how long. TOML becomes one frozen, fully checked record."""

import json
import math
import os
import re
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ..core.documents import check_plain, read_text
from ..core.errors import RasterError, RecipeError
from ..core.models.manifest import BandSpec, OutputType
from ..core.models.normalisers import MeanStdNormaliser, Normaliser, OutwardNormaliser, RangeNormaliser
from ..core.networks.catalogue import NETWORKS
from ..core.raster import listing
from ..core.raster.rows import Raster
from ..core.raster.source import RasterSource
from ..core.validation import Text, explain
from .methods import METHODS

_MOST_BYTES, _MOST_DOTS = 128 << 10, 64
Count = Annotated[int, Field(ge=1, le=10**9)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given,
                                                   json_schema_input_type=str | tuple[str, ...])]
"""A list, or a single one as it is."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rasters(_Part):
    """One side of the training data."""

    paths: Names = ()
    """Files, folders or globs: one, or a list."""
    exclude: Names = ()
    """File stems left out, for example a validation split: one, or a list."""
    bands: tuple[int, ...] | None = None
    """1-based band positions; None: all."""


class Augment(_Part):
    """What is drawn anew for each training window, beside flips; 0 and false are off. All but turns change the source
    alone, in this order: blur, gain and offset, noise."""

    turns: bool = False
    """Quarter turns, none to three; the same of both sides where they are paired."""
    blur: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels of the window; drawn evenly from 0 to it."""
    gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Half the width of a factor around 1, one for each window and band; about 0 of the network's range."""
    offset: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Half the width of what is added, around 0, one for each window and band; in the network's range, in which
    [-1,1] is the range of a band."""
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of Gaussian noise of each value, in the network's range."""

    @property
    def reach_px(self) -> int:
        """How far from a pixel the blur is counted."""
        return math.ceil(3 * self.blur)


class Data(_Part):
    """How windows are drawn."""

    source: Rasters = Rasters()
    target: Rasters = Rasters()
    window_px: Annotated[int, Field(ge=8, le=4096)] = 64
    """Side of a window, in pixels of the target."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 4
    min_valid: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Least fraction of valid pixels in a window."""
    latitude_zones: tuple[Annotated[float, Field(ge=-90, le=90)], ...] = ()
    """Edges of latitude zones in degrees; a source window then meets targets of its own zone."""
    match_grid: bool = False
    """Whether targets are seen in the CRS and the pixel size of the first source raster; of a paired
    method each on the very pixels of its own source."""
    scale: Annotated[Fraction, Field(ge=1, le=16)] = Fraction(1)
    """Target pixels for each source pixel along an axis: 3, or "5/2". Sources are then seen in pixels of that size."""
    validation: Annotated[float, Field(ge=0, le=0.5)] | str | tuple[str, ...] = 0.0
    """What is held out to judge on, a window apart from what is trained on: a share, of the rasters where it makes two
    or more, else of the last rows of each; "blocks", a fifth of the area in blocks all over; source rasters by name;
    or a file of polygons. 0: nothing."""
    flip_rows: bool = True
    flip_cols: bool = True
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _ordered(self) -> "Data":
        if list(self.latitude_zones) != sorted(set(self.latitude_zones)) or len(self.latitude_zones) == 1:
            raise ValueError("latitude_zones must be two or more increasing edges in degrees")
        if self.augment.reach_px >= self.window_px:
            raise ValueError(f"augment.blur = {self.augment.blur:g} reaches {self.augment.reach_px} pixels far, and "
                             f"windows have {self.window_px} (window_px)")
        return self


class BandsRecipe(_Part):
    """What the bands are and how they meet the network's range."""

    source: Annotated[tuple[BandSpec, ...], Field(max_length=1024)] = ()
    """Empty: taken from the first source raster."""
    target: Annotated[tuple[BandSpec, ...], Field(max_length=1024)] = ()
    normalise: Literal["range", "mean_std"] = "range"
    """What stands for the two that follow where they are left out: the range given with the bands to [-1,1], or mean
    and standard deviation of the first raster to 0 and 1."""
    normalise_in: Normaliser | None = None
    normalise_out: OutwardNormaliser | None = None
    dtype: OutputType = "same"
    """Of what the model writes; "same" as its input, or as the target where both sides differ here."""


class Optimiser(_Part):
    """Adam; its rate rises over the first steps, stays, and falls to zero over the last part of the budget."""

    lr: Annotated[float, Field(gt=0, le=1)] = 2e-4
    betas: tuple[Rate, Rate] = (0.5, 0.999)
    weight_decay: Rate = 0.0
    """Share of each weight that a step takes away, times the rate; apart from the gradient (AdamW)."""
    head_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the rate at which a network's head and its affine path learn, where all weights add up to the image.
    None: 0.2 where that image is the translation, 1 where it is the noise or the drift of a paired process."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 30
    """Over which the rate rises linearly."""
    decay: Literal["linear", "cosine"] = "linear"
    """How the rate falls: along a line, or half a period of a cosine."""
    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Last part of the budget over which the rate falls, at most what the warm-up leaves."""
    ema: Rate = 0.999
    """Decay of the running mean of the generator's weights, which is what ships."""


class Budget(_Part):
    """How long to train and how often to look."""

    steps: Count = 4000
    log_every: Count = 50
    checkpoint_every: Count = 500
    preview_every: Count = 500
    """Also how often figures are measured on the windows of `data.validation`, the same all along."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of convolutions and products. bf16 is up to twice as fast where the processor knows it; weights, level
    paths, scores and losses stay fp32."""
    ships: Literal["last", "best"] | None = None
    """Which state becomes the model: the last, or that with the best figures at a preview (`psnr` of paired methods,
    else `colour_distance`). None: the best where pairs are held out (data.validation), else the last."""
    patience: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Previews in a row without better figures after which training stops; 0: it does not."""


class Packaging(_Part):
    """What the exported model says about itself."""

    title: Text = ""
    licence: Text = "unspecified"
    training_data: str = ""
    pixel_size_factor: Annotated[float, Field(ge=1, le=1e9)] = 2.0
    tile_px: Annotated[int, Field(ge=16, le=65536)] = 512


class NetworkRecipe(_Part):
    """The generator; `bands_in` and `bands_out` follow from the bands."""

    name: str = "resnet"
    sizes: dict[str, int] = {}
    """What differs from the network's defaults."""
    start: Literal["closed_form", "identity"] | None = None
    """At least squares of paired data or transport of unpaired, or at the source. None: the first where bands allow."""


class Recipe(_Part):
    """A training run as data."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    method: str
    seed: int = 0
    data: Data = Data()
    bands: BandsRecipe = BandsRecipe()
    network: NetworkRecipe = NetworkRecipe()
    optimiser: Optimiser = Optimiser()
    budget: Budget = Budget()
    package: Packaging = Packaging()
    settings: dict[str, Any] = {}
    """The method's own settings; its `Settings` checks them."""

    @model_validator(mode="after")
    def _known(self) -> "Recipe":
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is unknown; there are: {', '.join(METHODS)}")
        if self.network.name not in NETWORKS:
            raise ValueError(f"network {self.network.name!r} is unknown; there are: {', '.join(NETWORKS)}")
        return self


def load_recipe(path: str | Path, overrides: dict[str, str] | None = None) -> Recipe:
    """A recipe from a TOML file, with `section.key` overrides.

    Raises:
        RecipeError: naming the file, the key and the nearest valid key.
    """
    if not os.path.exists(path):
        raise RecipeError(f"{path} does not exist: name a recipe file, or a recipe that comes with geoi2i "
                          f"({', '.join(bundled_recipes())}).")
    try:
        content = _parse_toml(read_text(Path(path), _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as TOML ({error}): correct it.") from error
    return make_recipe(content, overrides or {}, str(path))


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with geoi2i, by name."""
    folder = Path(__file__).parent.parent / "resources" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def make_recipe(content: dict[str, Any], overrides: dict[str, str], origin: str) -> Recipe:
    """A checked recipe from nested dictionaries; `origin` names them in errors."""
    for key, text in overrides.items():
        *sections, last = key.split(".")
        part = content
        for section in sections:
            part = part.setdefault(section, {})
            if not isinstance(part, dict):
                raise RecipeError(f"--set {key}: {section!r} is not a section of the recipe.")
        part[last] = _value(text)
    try:
        check_plain(content)
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {explain(error, Recipe)}") from error
    except ValueError as error:
        raise RecipeError(f"{origin} is not a recipe ({error}): correct it.") from error
    settings = METHODS[recipe.method].settings_type
    try:
        resolved = settings(**recipe.settings).model_dump(mode="json")
    except ValidationError as error:
        raise RecipeError(f"{origin}, section settings: {explain(error, settings)}") from error
    sizes = NETWORKS[recipe.network.name].sizes_type
    try:
        sizes(**{"bands_in": 2, "bands_out": 2, **recipe.network.sizes})
    except ValidationError as error:
        raise RecipeError(f"{origin}, section network.sizes: {explain(error, sizes)}") from error
    return recipe.model_copy(update={"settings": resolved})


def find_rasters(rasters: Rasters, side: str) -> list[str]:
    """The files of one side, in a fixed order.

    Raises:
        RecipeError: if there are none.
    """
    found: list[str] = []
    for pattern in rasters.paths:
        pattern = os.path.expandvars(os.path.expanduser(pattern))
        try:
            matches = [path for path, _ in listing.find_rasters(pattern).rasters]
        except RasterError:
            matches = []
        if not matches or not os.path.exists(matches[0]):
            raise RecipeError(f"No {side} raster is found at {pattern}: check the path.")
        found += matches
    found = [p for p in found if Path(p).stem not in rasters.exclude]
    if not found:
        raise RecipeError(f"The recipe names no {side} raster: give --{side} or data.{side}.paths.")
    return found


def describe_bands(recipe: Recipe) -> Recipe:
    """The recipe with bands and normalisers filled in from the rasters where it leaves them out."""
    changes: dict[str, Any] = {}
    for side, rasters in (("source", recipe.data.source), ("target", recipe.data.target)):
        specs = getattr(recipe.bands, side)
        if not specs:
            raster = RasterSource.open(find_rasters(rasters, side)[0], rasters.bands)
            low, high = raster.statistics((0.1, 99.9)).percentiles.values()
            specs = tuple(_band_spec(raster, k, low[k], high[k]) for k in range(len(raster.bands)))
            changes[side] = specs
        key = "normalise_in" if side == "source" else "normalise_out"
        if getattr(recipe.bands, key) is None:
            try:
                changes[key] = (_standard(rasters, side) if recipe.bands.normalise == "mean_std" else RangeNormaliser(
                    minimum=tuple(s.minimum for s in specs), maximum=tuple(s.maximum for s in specs)))
            except ValidationError as error:
                raise RecipeError(f"The ranges of bands.{side} do not give a normalisation: "
                                  f"{explain(error, RangeNormaliser)}") from error
    if recipe.bands.dtype == "same":
        before, after = (RasterSource.open(find_rasters(rasters, side)[0], rasters.bands).dtype
                         for side, rasters in (("source", recipe.data.source), ("target", recipe.data.target)))
        if before != after:  # what is like the target does not fit into the numbers of the source
            changes["dtype"] = after if after in get_args(OutputType) else "float32"
    return recipe.model_copy(update={"bands": recipe.bands.model_copy(update=changes)})


def _standard(rasters: Rasters, side: str) -> MeanStdNormaliser:
    """Mean and standard deviation of the first raster of a side."""
    found = RasterSource.open(find_rasters(rasters, side)[0], rasters.bands).statistics()
    return MeanStdNormaliser(mean=found.mean, std=tuple(std or 1.0 for std in found.std))


def _band_spec(raster: Raster, k: int, low: float, high: float) -> BandSpec:
    """A band as its raster describes it."""
    band, whole = raster.bands[k], raster.dtype == "uint8"
    colour = band.colour if band.colour not in (None, "undefined", "gray") else f"band {k + 1}"
    try:
        return BandSpec(name=band.name or colour, unit=band.unit or "", minimum=0 if whole else low,
                        maximum=255 if whole else high, colour=band.colour or "undefined")
    except ValidationError as error:
        raise RecipeError(f"Band {raster.indexes[k]} of {raster.path} cannot be trained on as it is: "
                          f"{explain(error, BandSpec)}") from error


def _value(text: str) -> Any:
    """A value as TOML would read it; anything else is text."""
    try:
        return _parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _parse_toml(text: str) -> dict[str, Any]:
    """TOML, or a ValueError with what is wrong; the parser alone takes gigabytes for a key of 100,000 parts."""
    unquoted = re.sub(r'"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?|[ \t]+', "", text)
    if any(part.count(".") > _MOST_DOTS for part in re.split(r"[\n,=\[\]{}]+", unquoted)):
        raise ValueError(f"a key has more than {_MOST_DOTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def as_json(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain data; paths become file names, so that no machine's folders ship."""
    content = json.loads(recipe.model_dump_json())
    for side in ("source", "target"):
        rasters = content["data"][side]
        rasters["paths"] = [Path(p).name for p in rasters["paths"]]
    if content["data"]["validation"] and not isinstance(content["data"]["validation"], float):
        names = content["data"]["validation"]
        content["data"]["validation"] = Path(names).name if isinstance(names, str) else [Path(n).name for n in names]
    if content["settings"].get("weights"):
        content["settings"]["weights"] = Path(content["settings"]["weights"]).name
    return content
