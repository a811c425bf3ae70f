"""SP-I2I: an unpaired bridge that takes its colours from the target and its detail from the source.

Structure-preserving image-to-image translation (arXiv:2511.22668) on the unpaired neural
Schroedinger bridge (UNSB, Kim et al. 2024, arXiv:2305.15086). With x_hat = G(X_i, i, z), P the
Laplacian pyramid, R its inverse and w = gate(x_hat, i):

    I_low     = R(w * P(x_hat))                                  all that the critic sees
    L_adv     = (D(I_low, i) - 1)^2                              against the raw target
    L_spatial = sum_j lambda_j mean |gray P_j(x_hat) - gray P_j(source)|,  residual excluded
    L_SB      = tau mean (X_i - x_hat)^2 - tau (T-i)/T H(X_i, x_hat)

The generator minimises lambda_gan L_adv + lambda_spatial L_spatial + lambda_sb L_SB. The paper's
code is not public; every choice it leaves open is a setting below, with the reason for its default.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable, schrodinger_bridge_table
from ..bridge import along
from ..critics import Gate, PatchCritic, energies, frozen
from ..losses import (
    Loss,
    adversarial_loss,
    bridge_loss,
    critic_loss,
    energy_loss,
    gradient_penalty,
    ordering_penalty,
    spatial_loss,
)
from ..pyramid import decompose, reconstruct
from ._shared import Choices, Levels, Weight, Width, check_same_bands


class Settings(Choices):
    """The choices of SP-I2I. Gate, critic and spatial loss default to what held in docs/results/toy_gate.md;
    sizes, steps, levels and the bridge loss to UNSB and the paper."""

    steps: Annotated[int, Field(ge=1, le=50)] = 5
    """Calls of the generator per image, T. The paper follows UNSB."""
    sees_source: bool = False
    """Whether the generator sees the source beside its state. The paper's does not; then the bridge's
    noise reaches the result's fine colours, which neither the gated critic nor the grey loss sees."""
    tau: Weight = 0.01
    """Entropy of the bridge: sets the noise added between steps. UNSB's value."""
    levels: Annotated[int, Field(ge=1, le=12)] = 6
    """Band-pass levels of the pyramid, L. The paper found six best."""
    gating: bool = True
    """Whether a gate chooses what the critic sees; off, the critic sees all of the prediction."""
    critic_sees: Literal["raw_target", "target_gated_alike", "target_gated_itself"] = "raw_target"
    """The target shown beside the gated prediction. The paper's symbols are lost; gating the target
    too, with the prediction's weights or its own, closes the gate. Kept as negative controls."""
    residual_weight: Literal["fixed", "learned"] = "fixed"
    """The gate's weight for the pyramid's residual. Fixed at 1: a gate cannot hide everything."""
    spatial_weights: Literal["fixed", "one_minus_gate", "one_minus_gate_with_gradient"] = "fixed"
    """Weight of level j in the spatial loss: lambda_j = 2**-j, or that times (1 - w_j) without or
    with a gradient to the gate. With the gradient the gate opens fully (a negative control)."""
    spatial_knee: Weight = 0.0
    """Grey differences below this count quadratically in the spatial loss; 0 is the paper's L1 (inferred).
    L1 holds a generator that starts at its source: any step away costs at once. Without the bridge's
    noise to smooth that corner (see `sees_source`), use about 0.1."""
    lambda_gan: Weight = 1.0
    """Weight of the adversarial loss; UNSB's."""
    lambda_spatial: Weight = 10.0
    """Weight of the spatial loss, whose level j has 2**-j. The paper's is lost; at 3 a toy gate closed."""
    lambda_sb: Weight = 1.0
    """Zero also drops the energy network. UNSB's text and the JunoCam runs use 1, its code 0.1."""
    lambda_order: Weight = 0.0
    """Penalty on a finer level that is shown more than the next coarser one."""
    lambda_r1: Weight = 0.0
    """Gradient penalty on the critic at the target (R1). At 1 the toy lost 2 dB (one run)."""
    gate_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The gate's learning rate over the generator's: slow, so that it follows a critic that knows."""
    critic_width: Width = 64
    """Channels of the first layer of critic and energy; UNSB's."""
    critic_levels: Levels = 3
    """How many times critic and energy halve the image; each score then sees a larger patch."""
    critic_norm: Literal["instance", "channel", "none"] = "channel"
    """Instance norm, UNSB's, hides levels and gains, that is, the colours to be learned, from all but the
    first layer; in the toy the two did equally well."""
    gate_width: Width = 16
    """Channels of the gate's first layer."""


class SPI2I:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = False
    sizes: dict[str, int] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        table = schrodinger_bridge_table(settings.steps, settings.tau)
        self.table = table.model_copy(update={"concatenate_source": settings.sees_source})

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        """Who steps, in order, and which networks each of them owns."""
        players: dict[str, tuple[str, ...]] = {"critic": ("critic",)}
        if self.settings.lambda_sb:
            players["energy"] = ("energy",)
        # The gate shares the generator's loss, and so its backward pass.
        players["generator"] = ("generator", "gate") if self.settings.gating else ("generator",)
        return players

    @property
    def lr_factor(self) -> dict[str, float]:
        """Learning rate of each network over the recipe's."""
        factors = {name: 1.0 for names in self.players.values() for name in names}
        return factors | ({"gate": self.settings.gate_lr_factor} if self.settings.gating else {})

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        check_same_bands("SP-I2I", "its state mixes both", bands_in, bands_out)
        s = self.settings
        sizes: dict[str, Any] = {"width": s.critic_width, "levels": s.critic_levels, "norm": s.critic_norm}
        networks = {"generator": generator, "critic": PatchCritic(bands_in, **sizes)}
        if s.lambda_sb:
            networks["energy"] = PatchCritic(4 * bands_in, **sizes)
        if s.gating:
            networks["gate"] = Gate(bands_in, s.levels, s.residual_weight == "learned", s.gate_width)
        return networks

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return self.table

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Yield each player's loss in turn; the caller steps that player before it asks for the next.

        `batch` holds "source", "source2" and "target", (N,C,H,W) in [-1,1]; source2 must be other
        samples than source. All randomness comes from torch's global generator.
        """
        s = self.settings
        source, target = batch["source"], batch["target"]
        index = int(torch.randint(s.steps, ()))
        time = torch.full((source.shape[0],), float(index), device=source.device)
        pairs = self._predict(networks["generator"], source, batch["source2"], index)
        (_, prediction), *_ = pairs
        shown, shown_target, weights = self._show(networks, prediction, target, time)

        yield self._critic(networks["critic"], shown_target.detach(), shown.detach(), time)
        if s.lambda_sb:
            same, other = energies(networks["energy"], [[x.detach() for x in p] for p in pairs], time)
            value = energy_loss(same, other)
            yield Loss("energy", value, {"energy": value.detach()})
        yield self._generator(networks, pairs, source, shown, weights, time, index)

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        """What is wrong with the gate, in one sentence, or None; `parts` are the latest log figures."""
        if not self.settings.gating:
            return None
        weights = [parts[f"w_{j}"] for j in range(self.settings.levels) if f"w_{j}" in parts]
        listed = ", ".join(f"{w:.2f}" for w in weights)
        if weights and max(weights) < 0.2:
            return f"The gate has closed (level weights {listed}): the critic sees nothing but the residual."
        if weights and min(weights) > 0.95:
            return f"The gate has opened (level weights {listed}): the critic sees all, as without a gate."
        return None

    def _predict(self, generator: nn.Module, source: Tensor, source2: Tensor,
                 index: int) -> list[tuple[Tensor, Tensor]]:
        """(state, prediction) of the source and, if the bridge loss asks for it, of the second source."""
        return along(self.table, generator, [source, source2] if self.settings.lambda_sb else [source], index)

    def _show(self, networks: dict[str, nn.Module], prediction: Tensor, target: Tensor,
              time: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the critic sees of prediction and target, and the gate's weights (N,L+1)."""
        s = self.settings
        if not s.gating:
            return prediction, target, None
        gate = networks["gate"]
        # The gate looks, the generator is not told how: it must not learn to steer the gate.
        weights = gate(prediction.detach(), time)
        shown = reconstruct(decompose(prediction, s.levels), weights)
        if s.critic_sees != "raw_target":
            on_target = weights if s.critic_sees == "target_gated_alike" else gate(target, time)
            target = reconstruct(decompose(target, s.levels), on_target)
        return shown, target, weights

    def _critic(self, critic: nn.Module, real: Tensor, fake: Tensor, time: Tensor) -> Loss:
        s = self.settings
        real.requires_grad_(bool(s.lambda_r1))
        scores = critic(real, time)
        value = critic_loss(scores, critic(fake, time))
        parts = {"critic": value.detach()}
        if s.lambda_r1:
            value = value + s.lambda_r1 * gradient_penalty(scores, real)
        return Loss("critic", value, parts)

    def _generator(self, networks: dict[str, nn.Module], pairs: list[tuple[Tensor, Tensor]], source: Tensor,
                   shown: Tensor, weights: Tensor | None, time: Tensor, index: int) -> Loss:
        s = self.settings
        (state, prediction), *_ = pairs
        with frozen(networks["critic"]):
            terms = {"adversarial": s.lambda_gan * adversarial_loss(networks["critic"](shown, time))}
        terms["spatial"] = s.lambda_spatial * spatial_loss(
            prediction, source, self._spatial_weights(weights), s.spatial_knee)
        if s.lambda_sb:
            with frozen(networks["energy"]):
                same, other = energies(networks["energy"], pairs, time)
            remaining = (s.steps - index) / s.steps
            terms["bridge"] = s.lambda_sb * bridge_loss(state, prediction, same, other, s.tau, remaining)
        if weights is not None and s.lambda_order:
            terms["order"] = s.lambda_order * ordering_penalty(weights)
        parts = {name: term.detach() for name, term in terms.items()}
        if weights is not None:
            parts |= {f"w_{j}": w for j, w in enumerate(weights.detach().mean(0))}
        return Loss("generator", sum(terms.values()), parts)

    def _spatial_weights(self, weights: Tensor | None) -> Tensor:
        """The weight of each band (L,) or (N,L)."""
        fixed = torch.tensor([2.0**-j for j in range(self.settings.levels)])
        if weights is None or self.settings.spatial_weights == "fixed":
            return fixed
        hidden = 1 - weights[:, :-1]
        if self.settings.spatial_weights == "one_minus_gate":
            hidden = hidden.detach()
        return fixed.to(hidden) * hidden
