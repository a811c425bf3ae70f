"""What a translation is worth: measures on rasters with nodata, in float64."""

from .histogram import chi_square, histogram, sliced_wasserstein
from .image import psnr, ssim
from .spectrum import band_power

__all__ = ["band_power", "chi_square", "histogram", "psnr", "sliced_wasserstein", "ssim"]
