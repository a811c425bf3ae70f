"""Model packages: a folder with `manifest.json` and `weights.safetensors`, and nothing that could run."""

import hashlib
import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .bands import Normaliser
from .device import PRECISIONS
from .errors import ModelError
from .networks import NETWORKS
from .sampler import StepTable
from .tiles import Tiling
from .translator import Translator
from .validation import explain

FORMAT_VERSION = 1
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
_PROBE = ("probe.input", "probe.output")
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}
_HEADER_LIMIT = 16 << 20


class BandSpec(BaseModel):
    """One band a model takes or gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str = ""
    minimum: float
    """Lowest physical value that makes sense; the range of the training data."""
    maximum: float
    colour: str = "undefined"
    """Colour interpretation: red, green, blue, gray or undefined."""


class NetworkSpec(BaseModel):
    """Which network of `NETWORKS`, and its sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sizes: dict[str, int]


class Manifest(BaseModel):
    """Everything a model says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    version: str = "1"
    title: str
    licence: str
    bands_in: Annotated[tuple[BandSpec, ...], Field(min_length=1)]
    bands_out: Annotated[tuple[BandSpec, ...], Field(min_length=1)]
    body: str | None = None
    """Celestial body the model was trained on; None: any."""
    pixel_size_m: Annotated[float, Field(gt=0)] | None = None
    pixel_size_factor: Annotated[float, Field(ge=1)] = 2.0
    """The model suits pixel sizes within this factor of its own."""
    network: NetworkSpec | None = None
    """None for a table that calls no network."""
    table: StepTable
    normalise_in: Normaliser
    normalise_out: Normaliser
    margin_px: Annotated[int, Field(ge=0, le=4096)] = 0
    multiple_of: Annotated[int, Field(ge=1, le=256)] = 1
    tile_px: Annotated[int, Field(ge=1, le=65536)] = 512
    overlap_px: Annotated[int, Field(ge=0, le=4096)] = 0
    attends: bool = False
    """Whether the network looks at its whole window; `tile_px` is then fixed."""
    dtype: Literal["same", "uint8", "uint16", "int16", "float32"] = "same"
    recipe: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    training_data: str = ""
    weights_sha256: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.table.uses_network and self.network is None:
            raise ValueError("the step table calls a network but none is named")
        for bands, normaliser in ((self.bands_in, self.normalise_in), (self.bands_out, self.normalise_out)):
            given = getattr(normaliser, "minimum", getattr(normaliser, "mean", None))
            if given is not None and len(given) != len(bands):
                raise ValueError(f"a normaliser has {len(given)} bands where {len(bands)} are declared")
        shown = len(self.bands_in) * (2 if self.table.concatenate_source else 1)
        sizes = self.network.sizes if self.network else {}
        for key, count in (("bands_in", shown), ("bands_out", len(self.bands_out))):
            if sizes.get(key, count) != count:
                raise ValueError(f"the network's {key} is {sizes[key]} where the bands declared make {count}")
        return self

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


@dataclass(frozen=True)
class ModelPackage:
    """A manifest with its folder; weights are read when a translator is made."""

    manifest: Manifest
    folder: Path | None = None
    """None for the identity, which has no weights."""

    @classmethod
    def load(cls, folder: str | Path) -> "ModelPackage":
        """Reads and checks a package folder; runs no code from it.

        Raises:
            ModelError: if a file is missing, foreign, altered, unsafe or from a newer format.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a model folder: name a folder with {MANIFEST} and {WEIGHTS}, "
                             "or a model that `geoi2i models list` shows.")
        _refuse_pickles(folder)
        if not (folder / MANIFEST).is_file():
            raise ModelError(f"{folder} has no {MANIFEST}: it is not a model package, or a file was renamed.")
        manifest = read_manifest(folder / MANIFEST)
        if manifest.network is not None:
            _check_weights(folder, manifest)
        return cls(manifest, folder.absolute())

    def network(self) -> nn.Module | None:
        """The network with its weights, on the CPU, for inference."""
        if self.manifest.network is None:
            return None
        spec = self.manifest.network
        with torch.device("meta"):
            network = build_network(spec)
        tensors = {k: v for k, v in _tensors(self.folder).items() if k not in _PROBE}
        _check_shapes(self.folder, network, tensors)
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def translator(self, device: torch.device | str = "cpu", precision: str = "fp32",
                   tiling: Tiling | None = None) -> Translator:
        """The model ready to run on `device`; the level path stays in float32 at every precision."""
        network = self.network()
        if network is not None:
            network = at_precision(network, PRECISIONS[precision])
            network = network.to(device, memory_format=torch.channels_last)
        return Translator(network, self.manifest.table, tiling or self.manifest.tiling(),
                          getattr(network, "style_size", 0), torch.device(device))

    def probe(self) -> tuple[Tensor, Tensor] | None:
        """The stored input (1,C,h,w) and the output that the network gave for it at export."""
        tensors = _tensors(self.folder) if self.folder and self.manifest.network else {}
        return tuple(tensors[name] for name in _PROBE) if _PROBE[0] in tensors else None

    def verify(self) -> float:
        """Largest difference between the probe's stored and recomputed output, in the network's range.

        Raises:
            ModelError: if the package has no probe or does not reproduce it within 1e-4.
        """
        probe = self.probe()
        if probe is None:
            raise ModelError(f"Model {self.manifest.name} has no probe: export it again to verify it.")
        difference = float((run_probe(self.network(), probe[0]) - probe[1]).abs().max())
        if not difference <= 1e-4:
            raise ModelError(f"Model {self.manifest.name} does not reproduce its probe (difference "
                             f"{difference:.2g}, at most 1e-4): the package or this installation is damaged.")
        return difference


def build_network(spec: NetworkSpec) -> nn.Module:
    """A network of `NETWORKS` with fresh weights.

    Raises:
        ModelError: for an unknown name or impossible sizes.
    """
    if spec.name not in NETWORKS:
        raise ModelError(f"Network {spec.name!r} is unknown here (known: {', '.join(NETWORKS)}): "
                         "update geoi2i or check the name.")
    kind = NETWORKS[spec.name]
    try:
        return kind(kind.sizes_type(**spec.sizes))
    except ValidationError as error:
        raise ModelError(f"Network {spec.name}: {explain(error, kind.sizes_type)}") from error


def at_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network in `dtype`, all but its level path, which carries the radiometry."""
    for name, part in network.named_children():
        if name != "level":  # not even rounded and widened again
            part.to(dtype)
    return network


def run_probe(network: nn.Module, image: Tensor) -> Tensor:
    """What the network makes of a probe: time 0, style of ones."""
    style = torch.ones(image.shape[0], network.style_size) if getattr(network, "style_size", 0) else None
    with torch.inference_mode():
        return network(image, torch.zeros(image.shape[0]), style)


def save_package(folder: Path, manifest: Manifest, network: nn.Module) -> ModelPackage:
    """Writes a package with a probe; the manifest gets the weights' hash.

    Raises:
        ModelError: if the folder exists already.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists already: choose another --output or remove it.")
    network = network.eval().cpu().to(memory_format=torch.contiguous_format)
    side = max(16, manifest.multiple_of)
    generator = torch.Generator().manual_seed(0)
    channels = len(manifest.bands_in) * (2 if manifest.table.concatenate_source else 1)
    image = torch.rand(1, channels, side, side, generator=generator) * 2 - 1
    tensors = {k: v.detach().contiguous().clone() for k, v in network.state_dict().items()}
    tensors |= dict(zip(_PROBE, (image, run_probe(network, image).contiguous())))
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was killed
    part.mkdir(parents=True)
    save_file(tensors, part / WEIGHTS)
    manifest = manifest.model_copy(update={"weights_sha256": _sha256(part / WEIGHTS)})
    (part / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    part.rename(folder)
    return ModelPackage.load(folder)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a package, or a ModelError that names the key at fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}): get the package again.") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelError(f"{path} is of format {version}, and this geoi2i reads up to {FORMAT_VERSION}: "
                         "update geoi2i.")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{path}: {explain(error, Manifest)}") from error


def identity_package(bands: int) -> ModelPackage:
    """The translation that returns its input; for tests, benchmarks and `--model identity`."""
    from .sampler import identity_table

    specs = tuple(BandSpec(name=f"band {k + 1}", minimum=0, maximum=1) for k in range(bands))
    return ModelPackage(Manifest(
        name="identity", title="Returns its input", licence="GPL-3.0-or-later", bands_in=specs,
        bands_out=specs, table=identity_table(), normalise_in={"kind": "none"},
        normalise_out={"kind": "none"}))


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        # A safetensors file begins with a length, which may look like anything; `_check_weights` reads it.
        looks = path.is_file() and path != folder / WEIGHTS and _looks_pickled(path)
        if looks or (path.is_file() and path.suffix.lower() in _PICKLES):
            raise ModelError(f"{path} can carry code (a pickle): geoi2i loads safetensors only. "
                             "Remove the file if you trust the rest.")


def _looks_pickled(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(2)
    return start == b"PK" or (len(start) == 2 and start[0] == 0x80 and start[1] <= 5)


def _check_weights(folder: Path, manifest: Manifest) -> None:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder} has no {WEIGHTS}: a file is missing or was renamed. Get the package again.")
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(8)
    if len(head) < 8 or not 0 < struct.unpack("<Q", head)[0] <= min(_HEADER_LIMIT, size - 8):
        raise ModelError(f"{path} is not a safetensors file: get the package again.")
    if manifest.weights_sha256 != _sha256(path):
        raise ModelError(f"{path} is not the file its manifest describes (SHA-256 differs): it was altered or "
                         "cut off. Get the package again.")


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read ({error}): get the package again.") from error


def _check_shapes(folder: Path, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise ModelError(f"{folder / WEIGHTS} does not fit the network that its manifest names (first at "
                         f"{wrong}): the package is damaged.")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
