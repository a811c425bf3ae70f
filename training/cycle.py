"""What methods with a way back have in common: two generators, and a critic and a pool of images at either end."""

from torch import Tensor, nn

from .critics import PatchCritic
from .losses import Loss, critic_loss
from .pool import ImagePool


def both_ways(generator: nn.Module, bands_in: int, bands_out: int, critic_width: int, critic_levels: int, pool: int
              ) -> dict[str, nn.Module]:
    """The generator from source to target and everything that trains it, by name."""
    critics = {name: PatchCritic(bands, critic_width, critic_levels, timed=False)
               for name, bands in (("critic", bands_out), ("critic_back", bands_in))}
    back = type(generator)(generator.sizes.model_copy(update={"bands_in": bands_out, "bands_out": bands_in}))
    return {"generator": generator, "back": back, **critics, "pool": ImagePool(pool), "pool_back": ImagePool(pool)}


def both_critics(networks: dict[str, nn.Module], source: Tensor, target: Tensor, made: Tensor, made_back: Tensor
                 ) -> Loss:
    """The critics' loss: real images against made ones, some of which are from before."""
    value = critic_loss(networks["critic"](target), networks["critic"](networks["pool"](made)))
    value_back = critic_loss(networks["critic_back"](source), networks["critic_back"](networks["pool_back"](made_back)))
    return Loss("critic", value + value_back, {"critic": value.detach(), "critic_back": value_back.detach()})
