"""Public checkpoints of CycleGAN, CUT and UNSB as model packages.

Those are pickles of a state dictionary, read with `weights_only`, so that none of their code runs. Which network they
are of is told by the names and shapes of their tensors; whatever does not fit is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from ..errors import ModelError
from ..inference.steps import generator_table, schrodinger_bridge_table
from ..networks.instance import InstanceGenerator, InstanceSizes
from ..validation import explain
from .manifest import BandSpec, Manifest, NetworkSpec
from .normalisers import RangeNormaliser
from .package import ModelPackage, save_package

KINDS = ("cyclegan", "cut", "unsb")
_BYTES = 4 << 30
_OTHER = "Name the checkpoint of the generator, and its architecture with --from."


@dataclass(frozen=True)
class Origin:
    """What a checkpoint does not say of itself."""

    name: str
    bands_in: tuple[BandSpec, ...]
    bands_out: tuple[BandSpec, ...]
    licence: str = "unspecified"
    steps: int = 5
    """Of UNSB's chain."""
    tau: float = 0.01
    """Of UNSB's chain."""
    mended: bool = False
    """Whether UNSB's blocks were mended before training (the JunoCam team's --fix_time_bug)."""


def import_checkpoint(kind: str, path: Path, destination: Path, origin: Origin) -> ModelPackage:
    """Writes a package of a generator's checkpoint.

    Args:
        kind: one of `KINDS`.

    Raises:
        ModelError: for a file that is not a checkpoint of this kind, or does not fit the bands.
    """
    state = _read(path)
    sizes, tensors = _unsb(state, path, origin.mended) if kind == "unsb" else _resnet(state, path, kind)
    bands = len(origin.bands_in), len(origin.bands_out)
    if (sizes.bands_in, sizes.bands_out) != bands:
        raise ModelError(f"{path} takes {sizes.bands_in} bands and gives {sizes.bands_out}, and {bands[0]} and "
                         f"{bands[1]} are named: give --bands and --target-bands that fit.")
    with torch.device("meta"):
        network = InstanceGenerator(sizes)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    if wrong := {name for name, _ in expected.items() ^ {k: v.shape for k, v in tensors.items()}.items()}:
        raise ModelError(f"{path} does not fit a {kind} generator with {sizes.blocks} blocks of {sizes.width} channels "
                         f"(first at {min(wrong)!r}): {_OTHER}")
    network.load_state_dict({name: value.float().contiguous() for name, value in tensors.items()}, assign=True)
    ranges = [RangeNormaliser(minimum=tuple(b.minimum for b in each), maximum=tuple(b.maximum for b in each))
              for each in (origin.bands_in, origin.bands_out)]
    title = {"cyclegan": "CycleGAN", "cut": "CUT", "unsb": "UNSB"}[kind]
    try:
        table = schrodinger_bridge_table(origin.steps, origin.tau) if kind == "unsb" else generator_table()
        manifest = Manifest(
            name=origin.name, title=f"{title} generator imported from {path.name}", licence=origin.licence,
            bands_in=origin.bands_in, bands_out=origin.bands_out,
            network=NetworkSpec(name="instance", sizes=sizes.model_dump()), table=table, normalise_in=ranges[0],
            normalise_out=ranges[1], margin_px=network.radius_px, multiple_of=network.stride, tile_px=512)
    except ValidationError as error:
        raise ModelError(f"{destination} would not be a valid model: {explain(error, Manifest)}") from error
    try:
        return save_package(destination, manifest, network)
    except OSError as error:
        raise ModelError(f"{destination} cannot be written ({error.strerror}): choose another folder.") from error


def _read(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, without the prefix of parallel training."""
    if not path.is_file():
        raise ModelError(f"{path} is not a file: name a checkpoint, for example latest_net_G.pth.")
    if path.stat().st_size > _BYTES:
        raise ModelError(f"{path} has {path.stat().st_size / 1e9:.3g} GB, and a generator at most {_BYTES / 1e9:.3g}: "
                         "name the checkpoint of the generator alone.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler does
        raise ModelError(f"{path} cannot be read as weights ({type(error).__name__}): it is damaged, or holds objects "
                         "that could run code; save its state_dict() alone.") from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path} holds no dictionary of tensors: save the generator's state_dict() alone.")
    if not all(isinstance(name, str) for name in state):
        raise ModelError(f"{path} has tensors without names: save the generator's state_dict() alone.")
    if odd := [name for name, value in state.items() if not _usable(value)]:
        raise ModelError(f"{path} has no plain finite numbers in {odd[0][:80]!r}: it is damaged, or of a training that "
                         "diverged. Take an earlier checkpoint.")
    return {name.removeprefix("module."): value for name, value in state.items()
            if not re.search(r"(running_mean|running_var|num_batches_tracked)$", name)}


def _usable(value: Tensor) -> bool:
    """Whether it is dense, real, unquantised, there, and finite."""
    plain = value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())
    return plain and bool(value.isfinite().all())


def _resnet(state: dict[str, Tensor], path: Path, kind: str) -> tuple[InstanceSizes, dict[str, Tensor]]:
    """CycleGAN's and CUT's: one sequence of layers, whose places tell what they are."""
    blurred = any(name.endswith(".filt") for name in state)
    if blurred != (kind == "cut"):
        other = "cut" if blurred else "cyclegan"
        raise ModelError(f"{path} is not a {kind} generator, for it {'has' if blurred else 'lacks'} fixed blurs: try "
                         f"--from {other}.")
    outer: dict[int, dict[str, Tensor]] = {}
    inner: dict[int, dict[int, dict[str, Tensor]]] = {}
    for name in state:
        if found := re.fullmatch(r"model\.(\d+)\.(weight|bias)", name):
            outer.setdefault(int(found[1]), {})[found[2]] = state[name]
        elif found := re.fullmatch(r"model\.(\d+)\.conv_block\.(\d+)\.(weight|bias)", name):
            inner.setdefault(int(found[1]), {}).setdefault(int(found[2]), {})[found[3]] = state[name]
        elif not name.endswith(".filt"):
            raise _foreign(path, kind, name)
    layers = [outer[k] for k in sorted(outer)]
    if len(layers) != 6 or any(len(block) != 2 for block in inner.values()):
        raise ModelError(f"{path} is not a {kind} generator of residual blocks with instance normalisation: it has "
                         f"{len(layers)} layers with weights outside of its blocks, not 6. {_OTHER}")
    names = ["stem", "down.0", "down.1", "up.0", "up.1", "head"]
    tensors = {f"{name}.{key}": value for name, layer in zip(names, layers) for key, value in layer.items()}
    for k, place in enumerate(sorted(inner)):
        for half, layer in zip(("first", "second"), (inner[place][j] for j in sorted(inner[place]))):
            tensors |= {f"blocks.{k}.{half}.{key}": value for key, value in layer.items()}
    return _sizes(tensors, path, kind, len(inner), blurred=int(blurred)), tensors


def _unsb(state: dict[str, Tensor], path: Path, mended: bool) -> tuple[InstanceSizes, dict[str, Tensor]]:
    """UNSB's: three sequences of layers, and two that embed time and style."""
    parts: dict[str, dict] = {"model": {}, "model_upsample": {}, "z_transform": {}, "time_embed": {}}
    tensors, blocks = {}, set()
    inside = {r"conv_block\.1": "first", r"conv_fin\.2": "second", r"adaptive\.style_net": "style",
              "Dense_time": "time"}
    for name, value in state.items():
        if name.endswith(".filt") or re.fullmatch(r"model_res\.\d+\.style\.(weight|bias)", name):
            continue  # fixed; and a layer that no image passes
        if found := re.fullmatch(r"(model|model_upsample|z_transform|time_embed)\.(\d+)\.(weight|bias)", name):
            parts[found[1]].setdefault(int(found[2]), {})[found[3]] = value
            continue
        for pattern, ours in inside.items():
            if found := re.fullmatch(rf"model_res\.(\d+)\.{pattern}\.(weight|bias)", name):
                tensors[f"blocks.{found[1]}.{ours}.{found[2]}"] = value
                blocks.add(found[1])
                break
        else:
            raise _foreign(path, "unsb", name)
    named = {"model": ["stem", "down.0", "down.1"], "model_upsample": ["up.0", "up.1", "head"],
             "z_transform": [f"style.{2 * k}" for k in range(4)], "time_embed": ["time.0", "time.2"]}
    for part, names in named.items():
        layers = [parts[part][k] for k in sorted(parts[part])]
        if len(layers) != len(names):
            raise ModelError(f"{path} is not an unsb generator: its {part} has {len(layers)} layers with weights, not "
                             f"{len(names)}. {_OTHER}")
        tensors |= {f"{name}.{key}": value for name, layer in zip(names, layers) for key, value in layer.items()}
    blurred = int(any(name.endswith(".filt") for name in state))
    if not mended:  # what these layers make is thrown away
        tensors = {name: value for name, value in tensors.items()
                   if not re.match(r"time\.|blocks\.\d+\.(first|time)\.", name)}
    return _sizes(tensors, path, "unsb", len(blocks), blurred=blurred, conditioned=1, legacy=int(not mended)), tensors


def _sizes(tensors: dict[str, Tensor], path: Path, kind: str, blocks: int, **more: int) -> InstanceSizes:
    stem, head = tensors.get("stem.weight"), tensors.get("head.weight")
    if stem is None or head is None or stem.ndim != 4 or head.ndim != 4:
        raise ModelError(f"{path} is not a {kind} generator: its first or last layer is not a convolution. {_OTHER}")
    try:
        return InstanceSizes(bands_in=stem.shape[1], bands_out=head.shape[0], width=stem.shape[0], blocks=blocks,
                             **more)
    except ValueError as error:
        raise ModelError(f"{path} is not a {kind} generator: its sizes are not those of one. {_OTHER}") from error


def _foreign(path: Path, kind: str, name: str) -> ModelError:
    return ModelError(f"{path} is not a {kind} generator with instance normalisation: it has a tensor "
                      f"{name[:80]!r}. {_OTHER}")
