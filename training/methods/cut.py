"""CUT: unpaired translation in one step, held to its source by patchwise contrast.

Park et al. 2020, arXiv:2007.15651. With sources a and targets b:

    L_adv = (D(G(a)) - 1)^2
    L_NCE = (PatchNCE(a, G(a)) + PatchNCE(b, G(b))) / 2
    L     = L_adv + lambda_nce L_NCE

FastCUT is the recipe with lambda_nce = 10, no identity and flip equivariance: half the cost, and closer to its source.
UNSB is the same with a chain of steps and a bridge. The generator is the mended ResNet without a style.
"""

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable, generator_table
from ..contrast import Projector, contrast
from ..critics import PatchCritic, frozen
from ..losses import Loss, adversarial_loss, critic_loss
from ._shared import Choices, Levels, Weight, Width, check_same_bands, check_taps


class Settings(Choices):
    """The choices of CUT; the defaults are those of its paper."""

    lambda_gan: Weight = 1.0
    lambda_nce: Weight = 1.0
    identity: bool = True
    """Whether the contrast also holds the translated target to the target."""
    flip_equivariance: bool = False
    """Whether every other batch is translated as its mirror image, and the maps of that are mirrored back."""
    num_patches: Annotated[int, Field(ge=2, le=4096)] = 256
    """Places of each map that are compared."""
    nce_temperature: Annotated[float, Field(gt=0)] = 0.07
    nce_width: Annotated[int, Field(ge=4, le=1024)] = 256
    """Length of the vectors that are compared."""
    critic_width: Width = 64
    critic_levels: Levels = 3


class CUT:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = False
    sizes = {"style": 0}
    players = {"critic": ("critic",), "generator": ("generator", "projector")}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        check_taps("CUT", generator)
        check_same_bands("CUT", "its generator also looks at what it made", bands_in, bands_out)
        s = self.settings
        return {"generator": generator, "critic": PatchCritic(bands_out, s.critic_width, s.critic_levels, timed=False),
                "projector": Projector(generator.tap_channels, s.nce_width)}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return generator_table()

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1]."""
        s, generator, critic = self.settings, networks["generator"], networks["critic"]
        source, target = batch["source"], batch["target"]
        mirrored = s.flip_equivariance and bool(torch.rand(()) < 0.5)
        images = torch.cat([source, target]) if s.identity else source
        made = generator(images.flip(3) if mirrored else images, torch.zeros(len(images), device=images.device), None)
        shown = made[: len(source)]

        value = critic_loss(critic(target), critic(shown.detach()))
        yield Loss("critic", value, {"critic": value.detach()})
        with frozen(critic):
            terms = {"adversarial": s.lambda_gan * adversarial_loss(critic(shown))}
        if s.lambda_nce:
            # The contrast is within each image, so source and target go through it as one batch.
            terms["contrast"] = s.lambda_nce * contrast(generator, networks["projector"], made, images, None,
                                                        s.num_patches, s.nce_temperature, mirrored)
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
