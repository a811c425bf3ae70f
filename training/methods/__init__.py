"""The training methods a recipe may name; a new method is one file and one line here."""

from .bbdm import BBDM
from .cut import CUT
from .cyclegan import CycleGAN
from .i2sb import I2SB
from .pix2pix import Pix2Pix
from .sp_i2i import SPI2I
from .stegogan import StegoGAN
from .unsb import UNSB

METHODS = {"sp_i2i": SPI2I, "unsb": UNSB, "cut": CUT, "cyclegan": CycleGAN, "stegogan": StegoGAN,
           "pix2pix": Pix2Pix, "bbdm": BBDM, "i2sb": I2SB}
