"""The networks a manifest may name. A name is looked up here and nowhere else; no code is loaded."""

from torch import nn

from .closed_form import Curves, LinearFilter, LocalLinear
from .instance import InstanceGenerator
from .latent import LatentUNet
from .latitude import CurvesTrend, LinearTrend
from .plain import PlainNetwork
from .resnet import ResnetGenerator
from .unet import UNet

NETWORKS: dict[str, type[nn.Module]] = {
    "resnet": ResnetGenerator, "unet": UNet, "instance": InstanceGenerator, "latent": LatentUNet,
    "linear": LinearFilter, "curves": Curves, "local": LocalLinear,
    "linear_latitude": LinearTrend, "curves_latitude": CurvesTrend, "plain": PlainNetwork}
