"""The training methods a recipe may name; a new method is one file and one line here."""

from ._shared import MethodKind
from .bbdm import BBDM
from .cdiffset import CDiffSET
from .cut import CUT
from .cyclegan import CycleGAN
from .dgdm import DGDM
from .flow import FLOW
from .i2sb import I2SB
from .pix2pix import Pix2Pix
from .resshift import RESSHIFT
from .sp_i2i import SPI2I
from .sr3 import SR3
from .stegogan import StegoGAN
from .supresdiffgan import SupResDiffGAN
from .unidb import UNIDB
from .unsb import UNSB

METHODS: dict[str, MethodKind] = {
    "sp_i2i": SPI2I, "unsb": UNSB, "cut": CUT, "cyclegan": CycleGAN, "stegogan": StegoGAN, "pix2pix": Pix2Pix,
    "bbdm": BBDM, "i2sb": I2SB, "sr3": SR3, "resshift": RESSHIFT, "flow": FLOW, "unidb": UNIDB,
    "supresdiffgan": SupResDiffGAN, "dgdm": DGDM, "cdiffset": CDiffSET}
