"""The sizes of the networks of latent diffusion, as a manifest names them.

They span the family of Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv:2112.10752), so that a manifest can name
one of it without running code.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SEEN_BANDS = 3
"""What the autoencoder takes and gives."""


class LatentUNetSizes(BaseModel):
    """What a manifest says about the U-Net; the defaults are those of Stable Diffusion 2.1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=2, le=64, multiple_of=2)]
    """Channels of the state's latents and of the source's."""
    bands_out: Annotated[int, Field(ge=1, le=64)]
    """Channels of the latents, and what the network says besides."""
    width: Annotated[int, Field(ge=8, le=1280)] = 320
    levels: Annotated[int, Field(ge=1, le=4)] = 3
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    widest: Annotated[int, Field(ge=1, le=8)] = 4
    """Channels are doubled at every level, up to so many times."""
    head_px: Annotated[int, Field(ge=0, le=512)] = 64
    """Channels of an attention head; 0: there are `heads` of them at every level."""
    heads: Annotated[int, Field(ge=0, le=64)] = 0
    linear: Annotated[int, Field(ge=0, le=1)] = 1
    groups: Annotated[int, Field(ge=1, le=64)] = 32
    context: Annotated[int, Field(ge=8, le=4096)] = 1024
    """Length of the embedding of a word."""
    words: Annotated[int, Field(ge=1, le=512)] = 77


class AutoencoderSizes(BaseModel):
    """What a manifest says about the autoencoder; the defaults are those of Stable Diffusion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latents: Annotated[int, Field(ge=1, le=32)] = 4
    width: Annotated[int, Field(ge=8, le=512)] = 128
    levels: Annotated[int, Field(ge=1, le=5)] = 3
    """How many times the image is halved."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    widest: Annotated[int, Field(ge=1, le=8)] = 4
    groups: Annotated[int, Field(ge=1, le=64)] = 32
    quantised: Annotated[int, Field(ge=0, le=1)] = 1
    """Whether a convolution stands on either side of the latents."""


class AutoencoderSpec(BaseModel):
    """How a package turns images into latents and back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: AutoencoderSizes = AutoencoderSizes()
    scaling: Annotated[float, Field(gt=0, le=1e3)] = 0.18215
    shift: Annotated[float, Field(ge=-1e3, le=1e3)] = 0.0
    """latents = (mean - shift) * scaling."""
    mix: Annotated[tuple[tuple[Annotated[float, Field(ge=-16, le=16)], ...], ...],
                   Field(min_length=SEEN_BANDS, max_length=SEEN_BANDS)]
    """For each band that the autoencoder sees, the share of each band of the source."""
    weights_sha256: str | None = None

    @property
    def factor(self) -> int:
        """Pixels to a latent, along an axis."""
        return 2**self.sizes.levels
