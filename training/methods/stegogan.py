"""StegoGAN: unpaired translation both ways, which keeps apart what the other side cannot show.

Wu et al. 2024, arXiv:2403.20142. Targets may show what sources do not (names on a map, clouds). The way back splits
its deepest map f with a mask M: f M becomes the image, f (1-M) is what cannot be shown there. It is handed to the
way forth openly, instead of being hidden in the image as CycleGAN's generators do:

    F(b)          = tail(f M)                                     the way back
    b_stego       = G(F(b) + noise, f (1-M))                      the way forth, with what was set aside
    L_cycle       = |F(G(a)) - a| + |b_stego - b|
    L_mask        = mean sqrt(m),   m = max_c (1-M)               set aside little
    L_consistency = |(1-m) (G(F(b)) - b_stego)|                   and change nothing elsewhere
    L             = CycleGAN's + lambda_mask L_mask + lambda_consistency L_consistency

At inference G is given nothing that was set aside, and so makes up nothing that the source does not show. The
generators are the mended ResNet without a style, whose affine skip path goes round the mask: colour is never set aside.
The published code lets the generators step twice a batch, here they step once.
"""

from collections.abc import Iterator
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable, generator_table
from ...core.networks.resnet import conv
from ..critics import frozen
from ..cycle import both_critics, both_ways
from ..losses import Loss, adversarial_loss, distance
from ._shared import Choices, Levels, Weight, Width, check_same_bands, check_taps


class Settings(Choices):
    """The choices of StegoGAN; the defaults are those of its code but for `lambda_identity`."""

    lambda_gan: Weight = 1.0
    lambda_cycle: Weight = 10.0
    lambda_identity: Weight = 0.0
    """Of `lambda_cycle`; 0 where the bands differ. Its code has 0.5: see `cyclegan` for why it is 0 here."""
    lambda_mask: Weight = 0.2
    lambda_consistency: Weight = 3.0
    noise: Weight = 0.01
    """Added to what the way back made, so that nothing survives that is hidden there."""
    pool: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Earlier images that a critic may be shown again."""
    critic_width: Width = 64
    critic_levels: Levels = 3


class StegoGAN:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = False
    sizes = {"style": 0}
    players = {"generator": ("generator", "back", "mask"), "critic": ("critic", "critic_back")}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        check_taps("StegoGAN", generator)
        s = self.settings
        if s.lambda_identity:
            check_same_bands("StegoGAN with settings.lambda_identity above 0", "it translates targets as if they were "
                             "sources", bands_in, bands_out)
        return {**both_ways(generator, bands_in, bands_out, s.critic_width, s.critic_levels, s.pool),
                "mask": Mask(generator.tap_channels[-1])}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return generator_table()

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1]."""
        s, source, target = self.settings, batch["source"], batch["target"]
        critic, critic_back = networks["critic"], networks["critic_back"]
        made = _forth(networks, source)
        made_back, aside, share = _back(networks, target)
        noisy = made_back + s.noise * torch.randn_like(made_back)
        clean, stego = _forth(networks, noisy), _forth(networks, noisy, aside)
        hidden = share.amax(1, keepdim=True)
        kept = 1 - F.interpolate(hidden, target.shape[2:], mode="bilinear", align_corners=False)

        with frozen(critic, critic_back):
            adversarial = adversarial_loss(critic(made)) + adversarial_loss(critic_back(made_back))
        terms = {"adversarial": s.lambda_gan * adversarial,
                 "cycle": s.lambda_cycle * (distance(_back(networks, made)[0], source) + distance(stego, target)),
                 "mask": s.lambda_mask * (hidden + 1e-10).sqrt().mean(),
                 "consistency": s.lambda_consistency * (kept * (clean - stego)).abs().mean()}
        if s.lambda_identity:
            same = distance(_back(networks, source)[0], source) + distance(_forth(networks, target), target)
            terms["identity"] = s.lambda_cycle * s.lambda_identity * same
        parts = {name: term.detach() for name, term in terms.items()} | {"set_aside": hidden.detach().mean()}
        yield Loss("generator", sum(terms.values()), parts)
        yield both_critics(networks, source, target, made, made_back)

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None


class Mask(nn.Module):
    """`forward(f (N,C,h,w)) -> M (N,C,h,w)` in [0,1]: how much of each feature the source's side can show."""

    def __init__(self, channels: int, width: int = 256):
        super().__init__()
        self.layers = nn.Sequential(conv(channels, width, 3), nn.ReLU(), conv(width, width, 3), nn.ReLU(),
                                    conv(width, channels, 3))
        nn.init.ones_(self.layers[-1].bias)  # at first nearly all is shown

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).sigmoid()


def _forth(networks: dict[str, nn.Module], image: Tensor, aside: Tensor | None = None) -> Tensor:
    """The way forth, with what was set aside where there is such."""
    generator = networks["generator"]
    condition = generator.condition(_now(image), None)
    features = generator.descend(image, condition)
    return generator.image(image, features if aside is None else features + aside, condition)


def _back(networks: dict[str, nn.Module], image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The way back: the image, the features that are set aside, and their share 1-M."""
    back = networks["back"]
    condition = back.condition(_now(image), None)
    features = back.descend(image, condition)
    shown = networks["mask"](features)
    return back.image(image, features * shown, condition), features * (1 - shown), 1 - shown


def _now(image: Tensor) -> Tensor:
    return torch.zeros(len(image), device=image.device)
