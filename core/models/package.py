"""Model packages: a folder with `manifest.json` and `weights.safetensors`, and nothing that could run."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..device import PRECISIONS
from ..errors import ModelError
from ..files import temporary_name
from ..inference.steps import identity_table
from ..inference.tiles import Tiling
from ..inference.translator import Translator
from ..networks.catalogue import NETWORKS
from ..networks.latent import Autoencoder, autoencoder_on_meta
from ..raster.source import RasterSource
from ..validation import explain
from ..writing import write_whole
from .folders import find_folder, model_folders
from .manifest import AUTOENCODER, MANIFEST, WEIGHTS, BandSpec, Manifest, NetworkSpec, read_folder, unreadable
from .matching import reasons_against
from .normalisers import NoNormaliser
from .weights import PROBE, check_weights, hash_file, load_weights

_MAP_BYTES, _LONGEST_LINE = 4 << 30, 8


@dataclass(frozen=True)
class ModelPackage:
    """A manifest with its folder; weights are read when a translator is made."""

    manifest: Manifest
    folder: Path | None = None
    """None for the identity, which has no weights."""
    before: "ModelPackage | None" = None
    """The package whose output this one takes."""

    def with_steps(self, count: int) -> "ModelPackage":
        """The same model with a sampler of so many steps.

        Raises:
            ModelError: where it has none.
        """
        manifest = self.manifest
        tables = {len(table.steps): table for table in (*manifest.presets, manifest.table)}
        if count not in tables:
            raise ModelError(f"Model {manifest.name} has samplers of {', '.join(map(str, sorted(tables)))} steps, not "
                             f"of {count}: choose one of these, or leave --steps out.")
        changes: dict[str, Any] = {"table": tables[count]}
        if manifest.auxiliary:  # as far along as in its own sampler
            step = manifest.auxiliary.step * count // len(manifest.table.steps)
            changes["auxiliary"] = manifest.auxiliary.model_copy(update={"step": step})
        return replace(self, manifest=manifest.model_copy(update=changes))

    def chain(self) -> "list[ModelPackage]":
        """All packages that a run goes through, the first one first."""
        return [*(self.before.chain() if self.before else []), self]

    @classmethod
    def load(cls, folder: str | Path, after: tuple[Path, ...] = ()) -> "ModelPackage":
        """Reads and checks a package folder; runs no code from it.

        A file may be a link, as some installers lay them; what it leads to must be a plain file and is checked alike.

        Args:
            after: folders of the packages that take this one's output.

        Raises:
            ModelError: if a file is missing, foreign, altered, unsafe or from a newer format.
        """
        folder = Path(folder)
        manifest = read_folder(folder)
        try:
            if manifest.network is not None:
                network = _on_meta(manifest.network)
                check_windows(manifest, network)
                check_weights(folder / WEIGHTS, network, manifest.channels, manifest.weights_sha256)
            if manifest.codec:
                check_weights(folder / AUTOENCODER, autoencoder_on_meta(manifest.codec), (0, 0),
                              manifest.codec.weights_sha256)
        except OSError as error:
            raise unreadable(error) from error
        return cls(manifest, folder.absolute(), _load_before(manifest, folder.absolute(), after))

    @property
    def normalises_over_space(self) -> bool:
        """Whether the network wants statistics of the whole raster."""
        network = self.manifest.network
        return network is not None and getattr(NETWORKS[network.name], "normalises_over_space", False)

    @property
    def stochastic(self) -> bool:
        """Whether passes of other noise or another style differ; packages before this one make one pass."""
        network = self.manifest.network
        styled = network is not None and getattr(_on_meta(network), "style_size", 0) > 0
        return self.manifest.table.stochastic or styled

    def network(self) -> nn.Module | None:
        """The network with its weights, on the CPU, for inference."""
        if self.manifest.network is None or self.folder is None:
            return None
        network = _on_meta(self.manifest.network)
        tensors = {k: v for k, v in load_weights(self.folder / WEIGHTS).items() if k not in PROBE}
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def autoencoder(self) -> Autoencoder | None:
        """What turns pixels into latents and back, where the steps work on latents; in float32 at every precision."""
        if self.manifest.codec is None or self.folder is None:
            return None
        autoencoder = autoencoder_on_meta(self.manifest.codec)
        autoencoder.load_state_dict(load_weights(self.folder / AUTOENCODER), assign=True)
        return autoencoder.eval().requires_grad_(False)

    @property
    def weights_bytes(self) -> int:
        """What the weights take in memory."""
        files = [self.folder / name for name in (WEIGHTS, AUTOENCODER)] if self.folder else []
        return sum(os.path.getsize(file) for file in files if file.exists())

    def translator(self, device: torch.device | str = "cpu", precision: str = "fp32",
                   tiling: Tiling | None = None) -> Translator:
        """The model ready to run on `device`; the affine skip path stays in float32 at every precision."""
        network = self.network()
        if network is not None:
            network = at_precision(network, PRECISIONS[precision])
            network = network.to(device, memory_format=torch.channels_last)
        manifest, asked, autoencoder = self.manifest, self.manifest.auxiliary, self.autoencoder()
        return Translator(network, manifest.table, tiling or manifest.tiling(), getattr(network, "style_size", 0),
                          torch.device(device), manifest.state_bands, autoencoder and autoencoder.to(device),
                          asked.step if asked else None)

    def probe(self) -> tuple[Tensor, Tensor] | None:
        """The stored input (1,C,h,w) and the output that the network gave for it at export."""
        tensors = load_weights(self.folder / WEIGHTS) if self.folder and self.manifest.network else {}
        return tuple(tensors[name] for name in PROBE) if PROBE[0] in tensors else None

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


def find_model(name: str) -> ModelPackage:
    """A model by name or by folder.

    Raises:
        ModelError: if there is none, with the names there are.
    """
    return ModelPackage.load(find_folder(name))


def suitable_model(raster: RasterSource) -> ModelPackage:
    """The one model that suits a raster; only those that suit by their manifests are loaded.

    Raises:
        ModelError: if none or several do, with the reason for each.
    """
    reasons, packages = reasons_against(raster), {}
    for name, folder in model_folders().items():
        if not reasons[name]:
            try:
                packages[name] = ModelPackage.load(folder)
            except ModelError as error:
                reasons[name] = [str(error).rstrip(".")]
    if len(packages) == 1:
        return next(iter(packages.values()))
    count = "No model suits" if not packages else "Several models suit"
    column = max(map(len, reasons), default=0)
    table = [f"{name:<{column}}  {'; '.join(why) or 'suits'}" for name, why in reasons.items()]
    raise ModelError(f"{count} {raster.path}:", table or ["none is installed"],
                     "Name one with --model, and its bands with --bands.")


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
    """The network in `dtype`, all but its affine skip path, which carries the radiometry."""
    for name, part in network.named_children():
        if name != "level":  # not even rounded and widened again
            part.to(dtype)
    return network


def run_probe(network: nn.Module, image: Tensor) -> Tensor:
    """What the network makes of a probe: time 0, style of ones."""
    style = torch.ones(image.shape[0], network.style_size) if getattr(network, "style_size", 0) else None
    with torch.inference_mode():
        return network(image, torch.zeros(image.shape[0]), style)


def save_package(folder: Path, manifest: Manifest, network: nn.Module, autoencoder: Autoencoder | None = None
                 ) -> ModelPackage:
    """Writes a package with a probe; the manifest gets the weights' hash.

    Raises:
        ModelError: if the folder exists already.
    """
    if os.path.lexists(folder):
        raise ModelError(f"{folder} exists already: choose another --output or remove it.")
    network = network.eval().cpu().to(memory_format=torch.contiguous_format)
    side = -(-max(16, network.smallest_px) // manifest.multiple_of) * manifest.multiple_of
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, manifest.channels[0], side, side, generator=generator) * 2 - 1
    tensors = {k: v.detach().contiguous().clone() for k, v in network.state_dict().items()}
    tensors |= dict(zip(PROBE, (image, run_probe(network, image).contiguous())))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(temporary_name())
    part.mkdir()
    try:
        _write_package(part, manifest, tensors, autoencoder)
        ModelPackage.load(part)  # what cannot be loaded gets no name
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return ModelPackage.load(folder)


def _write_package(part: Path, manifest: Manifest, tensors: dict[str, Tensor], autoencoder: Autoencoder | None) -> None:
    save_file(tensors, part / WEIGHTS)
    manifest = manifest.model_copy(update={"weights_sha256": hash_file(part / WEIGHTS)})
    if autoencoder and manifest.codec:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in autoencoder.state_dict().items()},
                  part / AUTOENCODER)
        described = manifest.codec.model_copy(update={"weights_sha256": hash_file(part / AUTOENCODER)})
        manifest = manifest.model_copy(update={"codec": described})
    write_whole(part / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def identity_package(bands: int) -> ModelPackage:
    """The translation that returns its input; for tests, benchmarks and `--model identity`."""
    specs = tuple(BandSpec(name=f"band {k + 1}", minimum=0, maximum=1) for k in range(bands))
    return ModelPackage(Manifest(
        name="identity", title="Returns its input", licence="GPL-3.0-or-later", bands_in=specs,
        bands_out=specs, table=identity_table(), normalise_in=NoNormaliser(),
        normalise_out=NoNormaliser()))


def _load_before(manifest: Manifest, folder: Path, after: tuple[Path, ...]) -> ModelPackage | None:
    """The package that makes the input of this one."""
    if manifest.input_model is None:
        return None
    place = folder.parent / manifest.input_model
    if place in (folder, *after) or len(after) >= _LONGEST_LINE:
        raise ModelError(f"Model {manifest.name} takes what {manifest.input_model} makes, which leads back to itself "
                         f"or over more than {_LONGEST_LINE} models: correct input_model in its manifest.")
    if not place.is_dir():
        raise ModelError(f"Model {manifest.name} takes what model {manifest.input_model} makes, which is missing: copy "
                         f"that package to {place}.")
    before = ModelPackage.load(place, (*after, folder))
    names = {band.name for band in before.manifest.bands_out}
    missing = [band.name for band in manifest.bands_in if band.name not in names]
    if missing:
        raise ModelError(f"Model {manifest.name} takes the band {missing[0]!r}, which {manifest.input_model} does not "
                         f"make ({', '.join(sorted(names))}): get versions that belong together.")
    if manifest.scale != 1:
        raise ModelError(f"Model {manifest.name} enlarges what {manifest.input_model} makes, and only the first of a "
                         "line may: set its scale to 1.")
    if any(n.percentiles for n in (manifest.normalise_in, manifest.normalise_out, before.manifest.normalise_out)):
        raise ModelError(f"Model {manifest.name} and {manifest.input_model} meet in percentiles of a raster that is "
                         "never made: give both fixed ranges.")
    return before


def _on_meta(spec: NetworkSpec) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build_network(spec)


def check_windows(manifest: Manifest, network: nn.Module) -> None:
    """Refuses windows on which the network cannot run, which no memory holds, or which are almost all margin."""
    factor, channels = 1, network.channels
    if manifest.codec:
        factor, channels = manifest.codec.factor, max(channels, manifest.codec.sizes.width)
    tiling, stride, smallest = manifest.tiling(), factor * network.stride, factor * network.smallest_px
    if getattr(network, "attends", False) and not manifest.attends:
        raise ModelError(f"Model {manifest.name}: its network looks at whole windows, and the manifest says that "
                         "it does not: set attends to true.")
    shortest = tiling.tile if tiling.fixed else tiling.multiple
    if manifest.multiple_of % stride or shortest + 2 * tiling.lattice_margin < smallest:
        raise ModelError(f"Model {manifest.name}: its network cannot run on windows on a lattice of {tiling.multiple} "
                         f"px with a margin of {tiling.margin} px: multiple_of must be a multiple of {stride}, "
                         f"margin_px at least {smallest // 2}.")
    if tiling.margin > network.radius_px:
        raise ModelError(f"Model {manifest.name}: a margin_px of {tiling.margin} is more than the {network.radius_px} "
                         "px that its network sees and would only take time: set margin_px to that.")
    side = tiling.tile + 2 * tiling.lattice_margin
    if 4 * side**2 * channels > _MAP_BYTES:
        raise ModelError(f"Model {manifest.name}: one map of features of {channels} channels on a window of "
                         f"{side} px would take {4e-9 * side**2 * channels:.3g} GB, and at most "
                         f"{_MAP_BYTES / 1e9:.3g} GB are allowed: lower its tile_px.")
