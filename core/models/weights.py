"""The file of a model's weights, held against the network that it is for before any of it is loaded."""

import hashlib
import math
import os
from pathlib import Path

import safetensors
from safetensors.torch import load_file
from torch import Tensor, nn

from ..documents import decode, parse_json
from ..errors import ModelError, shorten

PROBE = ("probe.input", "probe.output")
_HEADER_BYTES, _WEIGHTS_BYTES, _PROBE_PX = 1 << 20, 16 << 30, 256
_TYPE = "F32"
_REMEDY = "it was altered or cut off. Get the package again."

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> type as safetensors calls it, and shape."""


def check_weights(path: Path, network: nn.Module, channels: tuple[int, int], sha256: str | None) -> None:
    """Checks everything that the file claims, and its hash; reads its header and allocates nothing.

    Args:
        network: what the manifest names, on the meta device.
        channels: of the probe's input and output.

    Raises:
        ModelError: unless the file holds exactly the network's tensors and at most a probe besides.
    """
    expected = {name: (_TYPE, tuple(t.shape)) for name, t in network.state_dict().items()}
    if (whole := _bytes(expected)) > _WEIGHTS_BYTES:
        raise ModelError(f"The network for {path} has weights of {whole / 1e9:.3g} GB, and at most "
                         f"{_WEIGHTS_BYTES / 1e9:.3g} GB are loaded: correct its sizes in the manifest.")
    if not os.path.isfile(path):
        raise ModelError(f"{path.parent} has no {path.name}: a file is missing, was renamed, or is not a plain file. "
                         "Get the package again.")
    try:
        found, places, room = _read_header(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file ({shorten(str(error))}): {_REMEDY}") from error
    probe = {name: found.pop(name) for name in PROBE if name in found}
    wrong = [name for name, _ in expected.items() ^ found.items()]
    if wrong:
        raise ModelError(f"{path} does not fit the network that its manifest names (first at "
                         f"{shorten(repr(min(wrong)))}): one of the two was altered. Get the package again.")
    if probe and not _is_probe(probe, channels, network):
        raise ModelError(f"The probe in {path} must be a pair of images of {channels[0]} and {channels[1]} bands and "
                         f"at most {_PROBE_PX} pixels: {_REMEDY}")
    if not _fills(found | probe, places, room):
        raise ModelError(f"The tensors of {path} overlap, leave gaps or end elsewhere than the file: {_REMEDY}")
    if sha256 != hash_file(path):
        raise ModelError(f"{path} is not the file its manifest describes (SHA-256 differs): {_REMEDY}")


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that was checked."""
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({shorten(str(error))}): get the package again.") from error


def hash_file(path: Path) -> str:
    """SHA-256 as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_header(path: Path) -> tuple[Tensors, dict[str, tuple[int, int]], int]:
    """What the header claims: tensors, their byte ranges, and the bytes that the file has for all."""
    with open(path, "rb") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_HEADER_BYTES, size - 8):
            raise ValueError("no header, or a longer one than there can be")
        content = parse_json(decode(file.read(length)))
    try:
        content.pop("__metadata__", None)
        tensors = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in content.items()}
        places = {name: tuple(entry["data_offsets"]) for name, entry in content.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("a header of another form") from error
    if any(type(kind) is not str or len(places[name]) != 2 or {type(n) for n in (*places[name], *shape)} != {int}
           for name, (kind, shape) in tensors.items()):
        raise ValueError("a header of another form")
    return tensors, places, size - 8 - length


def _is_probe(probe: Tensors, channels: tuple[int, int], network: nn.Module) -> bool:
    """Two images of one size on which the network can run; every further number is the network's."""
    shapes = [shape for kind, shape in probe.values() if kind == _TYPE and len(shape) == 4]
    if len(shapes) != 2 or [shape[:2] for shape in shapes] != [(1, count) for count in channels]:
        return False
    sides = shapes[0][2:]
    return sides == shapes[1][2:] and all(
        network.smallest_px <= side <= _PROBE_PX and side % network.stride == 0 for side in sides)


def _fills(tensors: Tensors, places: dict[str, tuple[int, int]], room: int) -> bool:
    """Whether the tensors stand one after the other, from the first byte to the last."""
    reached = 0
    for name, (start, stop) in sorted(places.items(), key=lambda item: item[1]):
        if start != reached or stop - start != _bytes({name: tensors[name]}):
            return False
        reached = stop
    return reached == room


def _bytes(tensors: Tensors) -> int:
    return sum(4 * math.prod(shape) for _, shape in tensors.values())
