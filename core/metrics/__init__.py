"""What a translation is worth: measures on rasters with nodata, in float64."""

from .block import q2n
from .histogram import chi_square, histogram, sliced_wasserstein
from .measure import Accumulator, Measure, Patch, Score, Undefined, measured, patch_of, see
from .pixel import bias, calibration_error, ciede2000, ergas, gaussian_nll, mae, psnr, rmse, sam
from .spectrum import band_power
from .window import q, scc_dlpan, scc_local, ssim

__all__ = ["Accumulator", "Measure", "Patch", "Score", "Undefined", "band_power", "bias", "calibration_error",
           "chi_square", "ciede2000", "ergas", "gaussian_nll", "histogram", "mae", "measured", "patch_of", "psnr", "q",
           "q2n", "rmse", "sam", "scc_dlpan", "scc_local", "see", "sliced_wasserstein", "ssim"]
