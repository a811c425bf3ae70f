"""UNSB: unpaired translation along a Schroedinger bridge, held to its source by patchwise contrast.

Kim et al. 2024, arXiv:2305.15086. With x_hat = G(X_i, i, z) and one i for the batch:

    X_i   = (1-s) X_{i-1} + s x_hat(X_{i-1}) + sqrt(s (1-s) (1-t_{i-1}) tau) eps      rolled out without a graph
    L_adv = (D(x_hat, i) - 1)^2
    L_SB  = tau mean (X_i - x_hat)^2 - tau (T-i)/T H(X_i, x_hat)
    L_NCE = (PatchNCE(source, x_hat) + PatchNCE(target, G(target's X_i, i, z))) / 2

The generator minimises lambda_gan L_adv + lambda_sb L_SB + lambda_nce L_NCE. SP-I2I keeps the chain and the bridge,
shows the critic low frequencies only, and has a spatial loss in the place of the contrast. The generator is the
mended ResNet, whose time path is alive; that of the published code ignores time.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable, schrodinger_bridge_table
from ..bridge import along, draw_style
from ..contrast import Projector, contrast
from ..critics import PatchCritic, energies, frozen
from ..losses import Loss, adversarial_loss, bridge_loss, critic_loss, energy_loss
from ._shared import Choices, Levels, Weight, Width, check_same_bands, check_taps


class Settings(Choices):
    """The choices of UNSB; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=50)] = 5
    """Calls of the generator per image, T."""
    tau: Weight = 0.01
    """Entropy of the bridge: sets the noise added between steps."""
    lambda_gan: Weight = 1.0
    lambda_sb: Weight = 1.0
    """Zero also drops the energy network. The published code has 0.1, its text and the JunoCam runs 1."""
    lambda_nce: Weight = 1.0
    identity: bool = True
    """Whether the contrast also holds the target's own translation to the target."""
    num_patches: Annotated[int, Field(ge=2, le=4096)] = 256
    """Places of each map that are compared."""
    nce_temperature: Annotated[float, Field(gt=0)] = 0.07
    nce_width: Annotated[int, Field(ge=4, le=1024)] = 256
    """Length of the vectors that are compared."""
    critic_width: Width = 64
    """Of critic and energy."""
    critic_levels: Levels = 3


class UNSB:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = False
    sizes: dict[str, int] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        self.table = schrodinger_bridge_table(settings.steps, settings.tau)

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        energy = {"energy": ("energy",)} if self.settings.lambda_sb else {}
        return {"critic": ("critic",), **energy, "generator": ("generator", "projector")}

    lr_factor: dict[str, float] = {}

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        check_taps("UNSB", generator)
        check_same_bands("UNSB", "its state mixes both", bands_in, bands_out)
        s = self.settings
        sizes: dict[str, Any] = {"width": s.critic_width, "levels": s.critic_levels}
        energy = {"energy": PatchCritic(4 * bands_in, **sizes)} if s.lambda_sb else {}
        return {"generator": generator, "critic": PatchCritic(bands_in, **sizes), **energy,
                "projector": Projector(generator.tap_channels, s.nce_width)}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return self.table

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source", "source2" and "target" (N,C,H,W) in [-1,1]; source2 must be other
        samples than source."""
        s = self.settings
        source, target = batch["source"], batch["target"]
        index = int(torch.randint(s.steps, ()))
        time = torch.full((len(source),), float(index), device=source.device)
        images = [source, *([target] if s.identity else []), *([batch["source2"]] if s.lambda_sb else [])]
        (state, made), *others = along(self.table, networks["generator"], images, index)
        identity = others.pop(0)[1] if s.identity else None
        pairs = [(state, made), *others]

        value = critic_loss(networks["critic"](target, time), networks["critic"](made.detach(), time))
        yield Loss("critic", value, {"critic": value.detach()})
        if s.lambda_sb:
            value = energy_loss(*energies(networks["energy"], [[x.detach() for x in p] for p in pairs], time))
            yield Loss("energy", value, {"energy": value.detach()})
        with frozen(networks["critic"]):
            terms = {"adversarial": s.lambda_gan * adversarial_loss(networks["critic"](made, time))}
        if s.lambda_sb:
            with frozen(networks["energy"]):
                same, other = energies(networks["energy"], pairs, time)
            terms["bridge"] = s.lambda_sb * bridge_loss(state, made, same, other, s.tau, (s.steps - index) / s.steps)
        if s.lambda_nce:
            # The contrast is within each image, so source and target go through it as one batch.
            both = (made, identity), (source, target)
            shown, origin = (torch.cat(images) if s.identity else images[0] for images in both)
            terms["contrast"] = s.lambda_nce * contrast(
                networks["generator"], networks["projector"], shown, origin, draw_style(networks["generator"], origin),
                s.num_patches, s.nce_temperature)
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None
