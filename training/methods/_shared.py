"""What a method is to the rest of training, and what the settings and checks of several have in common."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ...core.errors import RecipeError
from ...core.inference.steps import StepTable
from ..losses import Loss

Weight = Annotated[float, Field(ge=0)]
"""Of a loss."""
Width = Annotated[int, Field(ge=4, le=512)]
"""Channels of a network's first layer."""
Levels = Annotated[int, Field(ge=1, le=6)]
"""How many times a critic halves the image; each score then sees a larger patch."""


class Choices(BaseModel):
    """Settings are frozen, and a key that they do not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(Protocol):
    """A method with its settings, as the training loop sees it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """What the generator differs in from the network's defaults."""

    @property
    def players(self) -> Mapping[str, tuple[str, ...]]:
        """Who is stepped in turn, and the names of the networks that are theirs."""

    @property
    def lr_factor(self) -> Mapping[str, float]:
        """By network, where its rate is not the recipe's."""

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1]."""

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        """What to say where the figures of the log show that training has failed."""


class MethodKind(Protocol):
    """A method as `METHODS` holds it."""

    @property
    def settings_type(self) -> type[Choices]:
        """Of what it is called with."""

    @property
    def paired(self) -> bool:
        """Whether it needs sources and targets of the same ground."""

    def __call__(self, settings: Any) -> Method:
        """The method with settings of its type."""


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
