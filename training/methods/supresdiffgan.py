"""SupResDiffGAN: paired super-resolution by a denoising diffusion whose estimate a critic compares with the target.

Kopec et al. 2025, arXiv:2504.13622. With pairs (y, x0) of the same area and x_hat = net(x_t, y, t):

    L = (x_hat - x0)^2 + lambda_gan BCE(D(x0, x_hat), swapped)

The critic is shown target and estimate in random order, both noised alike, and says which comes first. The better it
was lately, the more noise: to index clip((accuracy - 1/2) 2T, 0, T-1), accuracy being a running mean. Critic and
generator step in every batch, where the paper alternates; the paper works on the latents of Stable Diffusion's
autoencoder and may add a perceptual term. Beside `sr3` the network gives the clean image.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.inference.steps import StepTable
from ..critics import PatchCritic, frozen
from ..diffusion import Process
from ..losses import Loss
from ..schedules import denoising_diffusion
from ._process import ProcessChoices, check_choices, few_steps, sampler
from ._shared import Levels, Weight, Width

_KEPT = 0.97
"""Of the accuracy, from one step to the next."""


class Settings(ProcessChoices):
    """The choices of SupResDiffGAN; the defaults are those of its paper."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 15
    indices: Annotated[int, Field(ge=2, le=10_000)] = 1000
    first_beta: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    last_beta: Annotated[float, Field(gt=0, lt=1)] = 2e-2
    """Ends of the linear schedule."""
    head: Literal["clean"] = "clean"
    lambda_gan: Weight = 1e-2
    critic_width: Width = 64
    critic_levels: Levels = 3


class SupResDiffGAN:
    """The method as the training loop sees it; holds settings, never state."""

    settings_type = Settings
    paired = True
    sizes = {"style": 0}
    players = {"critic": ("critic",), "generator": ("generator",)}
    lr_factor: dict[str, float] = {}

    def __init__(self, settings: Settings):
        self.settings = settings
        self.process = denoising_diffusion(settings.indices, "linear", settings.first_beta, settings.last_beta, "clean")

    def networks(self, generator: nn.Module, bands_in: int, bands_out: int) -> dict[str, nn.Module]:
        """The generator and everything that trains it, by name."""
        s = self.settings
        check_choices("SupResDiffGAN", self.process, s)
        critic = PatchCritic(2 * bands_out, s.critic_width, s.critic_levels, timed=False)
        return {"generator": generator, "critic": critic, "referee": Referee()}

    def steps(self) -> StepTable:
        """The sampler that this method trains and that ships with its model."""
        return sampler(self.process, self.settings, self.settings.steps)

    def presets(self) -> tuple[StepTable, ...]:
        """Samplers of other numbers of steps, which ship too."""
        return tuple(sampler(self.process, self.settings, count) for count in few_steps(self.process, self.settings))

    def losses(self, networks: dict[str, nn.Module], batch: dict[str, Tensor]) -> Iterator[Loss]:
        """Each player's loss in turn, of "source" and "target" (N,C,H,W) in [-1,1], which show the same area."""
        s, process, source, target = self.settings, self.process, batch["source"], batch["target"]
        generator, critic, referee = networks["generator"], networks["critic"], networks["referee"]
        index = process.draw(len(target), target.device)
        noised = process.noised(target, source, index)
        made = generator(process.shown(noised, source, index, s.sees_source), index.float(), None)
        first = torch.rand(len(target), device=target.device) < 0.5
        hidden = torch.full_like(index, referee.index(process))

        def scores(made: Tensor) -> Tensor:
            """Logits (N,) of the target being the first of the two."""
            real, fake = (process.noised(image, source, hidden) for image in (target, made))
            order = first[:, None, None, None]
            pair = torch.cat([torch.where(order, real, fake), torch.where(order, fake, real)], 1)
            return critic(pair).mean((1, 2, 3))

        said = scores(made.detach())
        loss = F.binary_cross_entropy_with_logits(said, first.float())
        referee.saw((said.detach() > 0) == first)
        yield Loss("critic", loss, {"critic": loss.detach(), "accuracy": referee.accuracy.clone()})
        with frozen(critic):
            fooled = F.binary_cross_entropy_with_logits(scores(made), (~first).float())
        terms = {"mismatch": (made - target).square().mean(), "adversarial": s.lambda_gan * fooled}
        yield Loss("generator", sum(terms.values()), {name: term.detach() for name, term in terms.items()})

    def check_collapse(self, parts: dict[str, float]) -> str | None:
        return None


class Referee(nn.Module):
    """Remembers how often the critic was right, and hides the images from it accordingly."""

    def __init__(self):
        super().__init__()
        self.register_buffer("accuracy", torch.tensor(0.5))

    def saw(self, right: Tensor) -> None:
        self.accuracy.lerp_(right.float().mean(), 1 - _KEPT)

    def index(self, process: Process) -> int:
        """How far both images are noised."""
        return min(max(round((float(self.accuracy) - 0.5) * 2 * process.last), 0), process.last - 1)
