"""Published weights of the networks that measures use: which file, how it is known, where a person gets it.

Nothing is downloaded. A file is read as plain tensors, after its SHA-256 was compared with the digits that its
publisher put into its name; the hash goes with the network into every score.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .backbones import AlexNet, ResNet50, Vgg16
from .inception import InceptionFid


@dataclass(frozen=True)
class Published:
    """A file of weights and the network it is for."""

    files: tuple[str, ...]
    """Names under which it is published."""
    sha256: str
    """Its first digits."""
    source: str
    """Where to get it."""
    network: Callable[[], nn.Module]


def _torchgeo(name: str, revision: str, digits: str, bands: int) -> Published:
    file = f"{name}-{digits}.pth"
    return Published((file,), digits, f"https://hf.co/torchgeo/{name}/resolve/{revision}/{file}",
                     partial(ResNet50, bands))


WEIGHTS: dict[str, Published] = {
    "alexnet": Published(("alexnet-owt-7be5be79.pth",), "7be5be79",
                         "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", AlexNet),
    "vgg16": Published(("vgg16-397923af.pth",), "397923af",
                       "https://download.pytorch.org/models/vgg16-397923af.pth", Vgg16),
    "inception": Published(
        ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"), "6726825d",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        InceptionFid),
    # SSL4EO-S12 (Wang et al. 2023): B1 to B8, B8A, B9 to B12, or B4, B3, B2; reflectance of 0..10000 taken as 0..1.
    "sentinel2": _torchgeo("resnet50_sentinel2_all_moco", "da4f3c9dbe09272eb902f3b37f46635fa4726879", "df8b932e", 13),
    "sentinel2-dino": _torchgeo("resnet50_sentinel2_all_dino", "d7f14bf5530d70ac69d763e58e77e44dbecfec7c", "d6c330e9",
                                13),
    "sentinel2-rgb": _torchgeo("resnet50_sentinel2_rgb_moco", "efd9723b59a88e9dc1420dc1e96afb25b0630a3c", "2b57ba8b",
                               3),
}


@dataclass(frozen=True)
class Backbone:
    """A network with weights of known origin, for inference; `load_backbone` makes it.

    Raises:
        ModelError: without the hash of a file: a network of unknown weights has no place in a report.
    """

    name: str
    """Of `WEIGHTS`."""
    module: nn.Module
    sha256: str
    """Of the file, 64 digits."""
    file: str
    """Its name."""

    def __post_init__(self):
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ModelError(f"Backbone {self.name} has {self.sha256!r} where the SHA-256 of its file belongs: make it "
                             "with load_backbone.")
        self.module.eval().requires_grad_(False)

    @property
    def settings(self) -> dict[str, str]:
        """What stands beside a score."""
        return {"backbone": self.name, "file": self.file, "sha256": self.sha256}


def load_backbone(name: str, folder: str | Path | None) -> Backbone:
    """A network of `WEIGHTS` with the weights of a file in `folder`, on the CPU.

    Raises:
        ModelError: if the name is unknown, or the file missing, altered, unsafe or for another network.
    """
    if name not in WEIGHTS:
        raise ModelError(f"Backbone {name!r} is unknown: choose one of {', '.join(WEIGHTS)}.")
    published = WEIGHTS[name]
    wanted = f"{' or '.join(published.files)}, which backbone {name} needs: get it from {published.source}"
    if folder is None:
        raise ModelError(f"No folder is named for {wanted} and name its folder (geoi2i downloads no weights).")
    path = next((path for file in published.files if (path := Path(folder, file)).is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has no {wanted} and put it there (geoi2i downloads no weights).")
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}): check the file and its permissions.") from error
    if not found.startswith(published.sha256):
        raise ModelError(f"{path} is not the published file (its SHA-256 begins with {found[:8]}, not with "
                         f"{published.sha256}): it was altered or cut off. Get it again from {published.source}.")
    tensors = {key: value for key, value in _tensors(path).items() if not key.startswith(("classifier.", "fc."))}
    with torch.device("meta"):
        module = published.network()
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    # Files older than PyTorch 0.4.1 lack these counters, which inference does not read.
    tensors |= {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    differing = set(expected.items()) ^ {(key, tuple(value.shape)) for key, value in tensors.items()}
    if differing:
        raise ModelError(f"{path} is not of backbone {name} (first difference at {min(differing)[0]}): get the file "
                         f"from {published.source}.")
    module.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    return Backbone(name, module, found, path.name)


def shipped(file: str) -> dict[str, Tensor]:
    """Tensors of a file inside the installed torchmetrics, which is not imported; learned weights of LPIPS and DISTS.

    Raises:
        ModelError: if torchmetrics or the file is not there.
    """
    package = find_spec("torchmetrics")
    places = package.submodule_search_locations if package else None
    path = Path(places[0] if places else "torchmetrics", file)
    if not path.is_file():
        raise ModelError(f"{path} is missing, which torchmetrics 1.4 and later bring along: "
                         "pip install 'geoi2i[metrics]'.")
    return _tensors(path)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)  # never runs code
    except Exception as error:  # a broken or foreign pickle raises nearly anything
        raise ModelError(f"{path} cannot be read as plain tensors: it is cut off, or could carry code. Get it again "
                         "from where it was published.") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(f"{path} holds more than named tensors, as a file of a whole training run does: get the file "
                         "that its publisher names for use.")
    return tensors
