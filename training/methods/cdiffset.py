"""C-DiffSET: SAR to optical by latent diffusion, with a confidence that it predicts.

Do et al. 2024, arXiv:2411.10788; the released code, where it differs from the paper. An autoencoder and a U-Net of
Stable Diffusion, the first frozen; z the code of the optical image, z_s that of the SAR image as three bands:

    x_t = sqrt(alpha_bar_t) z + sqrt(1 - alpha_bar_t) eps,   eps_hat, o = net(z_s, x_t, t)
    v   = clamp(softplus(o + log(e - 1)), 1e-6, 10)
    L   = mean sg(v)^beta_t ((eps - eps_hat)^2 / v + log v + log 2 pi) / 2,   beta_t = sqrt(alpha_bar_t)

Training goes in two stages: `loss` "mse" from the pretrained folder, without o; then the loss above from the model
of the first. The confidence 1 / v of the middle step ships as a raster of its own (`--confidence`). Sampling is DDIM
without noise, from noise. The text is one prompt, encoded once.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.errors import ModelError, RecipeError
from ...core.inference.steps import StepTable
from ...core.models.manifest import Auxiliary
from ...core.models.package import ModelPackage
from ...core.networks.latent import Autoencoder, variance
from ...core.networks.latent_sizes import AutoencoderSpec
from ..losses import Loss
from ..pretrained import Parts, embedded_prompt, find_parts, load_autoencoder, load_unet
from ..schedules import denoising_diffusion
from ._process import few_steps
from ._shared import Choices

_MIXES = {1: ((1,),) * 3, 2: ((1, 0), (0.5, 0.5), (0, 1)), 3: ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
          4: ((1, 0, 0, 0), (0, 0.5, 0.5, 0), (0, 0, 0, 1))}
"""By the number of polarisations: one three times; VV, both, VH; three as they are; HH, the mean of HV and VH, VV."""
_FIRST_BETA, _LAST_BETA, _INDICES = 0.00085, 0.012, 1000
_BEGUN = 0.95
"""Share of the indices at which a sampler begins at least: earlier states hold less noise than it begins with."""


class Settings(Choices):
    """The choices of C-DiffSET; the defaults are those of its released code."""

    weights: str = ""
    """Folder of Stable Diffusion in the layout of diffusers, or of a model that was trained by this method."""
    loss: Literal["mse", "cdiff_code", "cdiff_beta1", "cdiff_eq3"] = "cdiff_code"
    """mse: no confidence; cdiff_beta1: beta_t = 1; cdiff_eq3: the paper's equation 3, for comparison."""
    prompt: str = "electro-optical image"
    steps: Annotated[int, Field(ge=1, le=_INDICES)] = 50
    """Calls of the network per image."""


class CDiffSET:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = True
    players = {"generator": ("generator",)}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        self.process = denoising_diffusion(_INDICES, "scaled", _FIRST_BETA, _LAST_BETA, "native")

    @cached_property
    def begun(self) -> "Parts | ModelPackage":
        """What training begins with.

        Raises:
            RecipeError: where there is nothing to begin with.
        """
        folder = self.settings.weights
        if not folder:
            raise RecipeError("C-DiffSET begins with the weights of Stable Diffusion: give settings.weights, a folder "
                              "in the layout of diffusers, or a model that this method trained.")
        if not (Path(folder) / "manifest.json").exists():
            return find_parts(folder, self.prompt.shape[1], self._further)
        package = ModelPackage.load(folder)
        if package.manifest.codec is None:
            raise RecipeError(f"{folder} does not work on latents: name a model that C-DiffSET trained.")
        return package

    @cached_property
    def prompt(self) -> Tensor:
        """The words that the network is told, (1,words,context)."""
        if (Path(self.settings.weights) / "manifest.json").exists():
            return self.begun.network().prompt
        find_parts(self.settings.weights, 1, self._further)  # says what is missing before anything is loaded
        return embedded_prompt(self.settings.weights, self.settings.prompt)

    @property
    def _further(self) -> int:
        """Channels that the network gives besides the latents."""
        return int(self.settings.loss != "mse")

    @cached_property
    def sizes(self) -> dict[str, int]:
        begun = self.begun
        sizes = begun.unet.model_dump() if isinstance(begun, Parts) else dict(begun.manifest.network.sizes)
        return {**sizes, "bands_out": sizes["bands_in"] // 2 + self._further}

    def codec(self, bands_in: int) -> AutoencoderSpec:
        """That of a source of so many bands.

        Raises:
            RecipeError: for numbers that are those of no SAR image.
        """
        if bands_in not in _MIXES:
            raise RecipeError(f"C-DiffSET takes one to four polarisations (HH, HV, VH and VV), and the source has "
                              f"{bands_in} bands: choose them with data.source.bands.")
        begun = self.begun
        spec = begun.autoencoder if isinstance(begun, Parts) else begun.manifest.codec
        return spec.model_copy(update={"mix": _MIXES[bands_in], "weights_sha256": None})

    @property
    def auxiliary(self) -> Auxiliary | None:
        """What the network says besides, and when."""
        return Auxiliary(name="confidence", step=self.settings.steps // 2) if self._further else None

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and the autoencoder, which stays as it is."""
        if bands_out != 3:
            raise RecipeError(f"C-DiffSET gives three bands, and the target has {bands_out}: choose three with "
                              "data.target.bands.")
        begun, codec = self.begun, Autoencoder(self.codec(bands_in))
        if isinstance(begun, Parts):
            generator.load_state_dict({**load_unet(begun), "prompt": self.prompt})
            codec.load_state_dict(load_autoencoder(begun))
        else:
            generator.load_state_dict(_widened(begun.network().state_dict(), generator))
            codec.load_state_dict(begun.autoencoder().state_dict())
        return {"generator": generator, "codec": codec.requires_grad_(False)}

    def steps(self) -> StepTable:
        """DDIM's, at the timesteps of the released code: 981, 961, .., 1 for fifty. Numbers of steps whose multiples
        end too early for that begin at the last index: 999, 932, .. for fifteen."""
        return self._table(self.settings.steps)

    def presets(self) -> tuple[StepTable, ...]:
        """Samplers of other numbers of steps, which ship too."""
        return tuple(map(self._table, few_steps(self.process, self.settings)))

    def _table(self, steps: int) -> StepTable:
        apart = _INDICES // steps
        times = [apart * k + 1 for k in reversed(range(steps))]
        if times[0] < _BEGUN * _INDICES:
            times = [round(_INDICES * (k + 1) / steps) - 1 for k in reversed(range(steps))]
        process = self.process.unscaled()
        table = process.table_at([*(min(time + 1, _INDICES) for time in times), 1], 0.0, True)
        rows = [row.model_copy(update={"time": row.time - 1}) for row in table.steps]
        return table.model_copy(update={"steps": tuple(rows)})

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """The one player's loss, of "source" (N,C,H,W) and "target" (N,3,H,W) in [-1,1] that show the same area."""
        codec, generator = networks["codec"], networks["generator"]
        with torch.no_grad():
            source = codec.encode(codec.mixed(batch["source"]))
            clean = codec.encode(batch["target"].clamp(-1, 1))
        time = torch.randint(_INDICES, (len(clean),)).to(clean.device)
        a, s = (values.to(clean)[time + 1][:, None, None, None] for values in (self.process.a, self.process.s))
        eps = torch.randn_like(clean)
        said = generator(torch.cat([a * clean + s * eps, source], 1), time.float(), None)
        off, raw = eps - said[:, : clean.shape[1]], said[:, clean.shape[1] :]
        value = noise_loss(self.settings.loss, off, raw, a)
        yield Loss("generator", value, {"noise": off.detach().square().mean(), self.settings.loss: value.detach()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None


def noise_loss(kind: str, off: Tensor, raw: Tensor, a: Tensor) -> Tensor:
    """The loss of noise (N,L,h,w) that is `off`, with the raw channel (N,1,h,w) of the confidence.

    Args:
        a: sqrt(alpha_bar_t), (N,1,1,1).
    """
    if kind == "mse":
        return off.square().mean()
    v = variance(raw)
    if kind == "cdiff_eq3":  # ||(eps - eps_hat) c^beta - log c^beta + tau||, beta = 1, tau = log 2 pi
        return (off / v + v.log() + math.log(2 * math.pi)).flatten(1).norm(dim=1).mean()
    weight = v.detach() ** (a if kind == "cdiff_code" else torch.ones_like(a))
    return (weight * 0.5 * (off.square() / v + v.log() + math.log(2 * math.pi))).mean()


def _widened(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network that says nothing besides, for one that does: what it says is zero."""
    found = dict(tensors)
    for name in ("unet.conv_out.weight", "unet.conv_out.bias"):
        further = network.state_dict()[name].shape[0] - found[name].shape[0]
        if further < 0:
            raise ModelError("A model with a confidence cannot begin a training without one: leave settings.loss at "
                             "cdiff_code.")
        found[name] = torch.cat([found[name], found[name].new_zeros(further, *found[name].shape[1:])])
    return found
