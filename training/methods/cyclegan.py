"""CycleGAN: unpaired translation both ways, each of which must undo the other.

Zhu et al. 2017, arXiv:1703.10593. With G from source to target, F back, and their critics:

    L_adv   = (D(G(a)) - 1)^2 + (D'(F(b)) - 1)^2
    L_cycle = |F(G(a)) - a| + |G(F(b)) - b|
    L_id    = |F(a) - a| + |G(b) - b|
    L       = L_adv + lambda_cycle (L_cycle + lambda_identity L_id)

Nothing but the cycle keeps the detail of the source, which a generator can also hide where no critic sees it (see
`stegogan`). Critics are shown earlier images again. The generators are the mended ResNet without a style, which begin
as the identity; L_id, which the paper adds for photographs of paintings alone, would hold them there (see
`lambda_identity`).
"""

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable, generator_table
from ..critics import frozen
from ..cycle import both_critics, both_ways
from ..losses import Loss, adversarial_loss, distance
from ._shared import Choices, Levels, Weight, Width, check_same_bands


class Settings(Choices):
    """The choices of CycleGAN; the defaults are those of its paper."""

    lambda_gan: Weight = 1.0
    lambda_cycle: Weight = 10.0
    lambda_identity: Weight = 0.0
    """Of `lambda_cycle`; 0 where the bands differ. The published code's 0.5 suits generators that begin at random; ours
    begin as the identity, where L_id and L_cycle are zero and have a kink, and with it do not leave it."""
    pool: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Earlier images that a critic may be shown again."""
    critic_width: Width = 64
    critic_levels: Levels = 3


class CycleGAN:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = False
    sizes = {"style": 0}
    players = {"generator": ("generator", "back"), "critic": ("critic", "critic_back")}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        s = self.settings
        if s.lambda_identity:
            check_same_bands("CycleGAN with settings.lambda_identity above 0", "it translates targets as if they were "
                             "sources", bands_in, bands_out)
        return both_ways(generator, bands_in, bands_out, s.critic_width, s.critic_levels, s.pool)

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return generator_table()

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1]."""
        s, source, target = self.settings, batch["source"], batch["target"]
        time = torch.zeros(len(source), device=source.device)

        def forth(image: Tensor) -> Tensor:
            return networks["generator"](image, time, None)

        def back(image: Tensor) -> Tensor:
            return networks["back"](image, time, None)

        made, made_back = forth(source), back(target)
        critic, critic_back = networks["critic"], networks["critic_back"]
        with frozen(critic, critic_back):
            adversarial = adversarial_loss(critic(made)) + adversarial_loss(critic_back(made_back))
        terms = {"adversarial": s.lambda_gan * adversarial,
                 "cycle": s.lambda_cycle * (distance(back(made), source) + distance(forth(made_back), target))}
        if s.lambda_identity:
            same = distance(back(source), source) + distance(forth(target), target)
            terms["identity"] = s.lambda_cycle * s.lambda_identity * same
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})
        yield both_critics(networks, source, target, made, made_back)

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
