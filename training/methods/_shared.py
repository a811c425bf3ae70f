"""What the settings and checks of several methods have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ...core.errors import RecipeError

Weight = Annotated[float, Field(ge=0)]
"""Of a loss."""
Width = Annotated[int, Field(ge=4, le=512)]
"""Channels of a network's first layer."""
Levels = Annotated[int, Field(ge=1, le=6)]
"""How many times a critic halves the image; each score then sees a larger patch."""


class Choices(BaseModel):
    """Settings are frozen, and a key that they do not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_same_bands(method: str, why: str, bands_in: int, bands_out: int) -> None:
    """Raises RecipeError where source and target differ in the number of bands."""
    if bands_in != bands_out:
        raise RecipeError(f"{method} needs as many target bands as source bands, since {why}; got {bands_in} and "
                          f"{bands_out}. Select or repeat bands so that the counts agree.")


def check_taps(method: str, generator: nn.Module) -> None:
    """Raises RecipeError for a generator whose inner maps are not to be had."""
    if not hasattr(generator, "tap_channels"):
        raise RecipeError(f"{method} needs maps inside the generator, which only network resnet shows: give "
                          'network.name = "resnet".')
