"""What a translation is worth: measures on rasters with nodata, in float64."""

from .histogram import chi_square, histogram, sliced_wasserstein
from .measure import Accumulator, Measure, Patch, Score, measured
from .pixel import bias, calibration_error, ciede2000, ergas, gaussian_nll, mae, psnr, rmse, sam
from .spectrum import band_power
from .window import q, scc_dlpan, ssim

__all__ = ["Accumulator", "Measure", "Patch", "Score", "band_power", "bias", "calibration_error", "chi_square",
           "ciede2000", "ergas", "gaussian_nll", "histogram", "mae", "measured", "psnr", "q", "rmse", "sam",
           "scc_dlpan", "sliced_wasserstein", "ssim"]
