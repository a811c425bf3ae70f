"""The training methods a recipe may name; a new method is one file and one line here."""

from .sp_i2i import SPI2I

METHODS = {"sp_i2i": SPI2I}
