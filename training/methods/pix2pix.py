"""Pix2Pix: paired translation by regression, with a critic that looks at source and result together.

Isola et al. 2017, arXiv:1611.07004. With pairs (a, b) of the same area:

    L_adv = -log D(a, G(a))
    L     = lambda_gan L_adv + lambda_l1 |G(a) - b|

With lambda_gan = 0 it is plain regression, the honest baseline of everything that is trained on pairs. The generator
is the mended ResNet without a style, where the paper has a U-Net with dropout.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...core.inference.steps import StepTable, generator_table
from ..critics import PatchCritic, frozen
from ..losses import Loss, cross_entropy, distance
from ._shared import Choices, Levels, Weight, Width


class Settings(Choices):
    """The choices of Pix2Pix; the defaults are those of its paper."""

    lambda_gan: Weight = 1.0
    """Zero drops the critic: plain regression."""
    lambda_l1: Weight = 100.0
    critic_width: Width = 64
    critic_levels: Levels = 3


class Pix2Pix:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = True
    sizes = {"style": 0}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        critic = {"critic": ("critic",)} if self.settings.lambda_gan else {}
        return {**critic, "generator": ("generator",)}

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        s = self.settings
        critic = {"critic": PatchCritic(bands_in + bands_out, s.critic_width, s.critic_levels, timed=False)}
        return {"generator": generator, **(critic if s.lambda_gan else {})}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return generator_table()

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1], which show the same area."""
        s, source, target = self.settings, batch["source"], batch["target"]
        made = networks["generator"](source, torch.zeros(len(source), device=source.device), None)
        terms = {"l1": s.lambda_l1 * distance(made, target)}
        if s.lambda_gan:
            critic = networks["critic"]
            real = critic(torch.cat([source, target], 1))
            value = (cross_entropy(real, 1.0) + cross_entropy(critic(torch.cat([source, made.detach()], 1)), 0.0)) / 2
            yield Loss("critic", value, {"critic": value.detach()})
            with frozen(critic):
                terms["adversarial"] = s.lambda_gan * cross_entropy(critic(torch.cat([source, made], 1)), 1.0)
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
