"""A smooth trend in latitude on top of a closed form (`geoi2i fit --latitude-order`).

Mean colours along latitude are compared, of what the closed form makes of the sources and of the targets; the
polynomial in the sine of latitude that is nearest to their difference is added. So few numbers cannot draw a belt.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..core.errors import RecipeError
from ..core.grid import Window
from ..core.models.normalisers import MeanStdNormaliser
from ..core.networks.closed_form import Curves
from ..core.networks.latitude import CurvesTrend, CurvesTrendSizes, LinearTrend, LinearTrendSizes
from ..core.raster.rows import SeekableRaster
from ..core.reproject.coordinate_bands import coordinates_on
from ..core.reproject.frame import Coordinates
from .closed_forms import Fit, Sides
from .sweeps import physical

SINE = Coordinates(names=("sin_latitude",))
_BLOCK_PX, _BELTS = 512, 180


def with_latitude(fit: Fit, sides: Sides, order: int) -> Fit:
    """The fit with a polynomial in the sine of latitude for each band.

    Args:
        order: highest power, at least 1.

    Raises:
        RecipeError: for rasters that share fewer degrees of latitude than the polynomial has terms.
        RasterError: for a raster without a CRS.
    """
    counts, sines, made = _belts(sides.sources, fit.normalise_in, fit.network)
    others, _, wanted = _belts(sides.targets, fit.normalise_out)
    both = (counts > 0) & (others > 0)
    if both.sum() <= order:
        raise RecipeError(f"{sides.sources[0].path} and the targets share {both.sum()} degrees of latitude, too few "
                          f"for --latitude-order {order}: leave it out, or lower it.")
    weight = np.sqrt(counts[both])
    powers = sines[both, None] ** np.arange(order + 1)
    trend = np.linalg.lstsq(powers * weight[:, None], ((wanted - made)[:, both] * weight).T, rcond=None)[0].T
    return Fit(fit.normalise_in, fit.normalise_out, _joined(fit.network, torch.from_numpy(trend)), fit.table, SINE)


def _joined(network: nn.Module, trend: torch.Tensor) -> nn.Module:
    sizes = network.sizes.model_dump() | {"bands_in": network.sizes.bands_in + 1, "order": trend.shape[1] - 1}
    joined = CurvesTrend(CurvesTrendSizes(**sizes)) if isinstance(network, Curves) else LinearTrend(
        LinearTrendSizes(**sizes))
    joined.level = network
    with torch.no_grad():
        joined.trend.copy_(trend)
    return joined


def _belts(rasters: Sequence[SeekableRaster], normaliser: MeanStdNormaliser, network: nn.Module | None = None
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Valid pixels, mean sine, and mean values (C,belts) in standard deviations, of each degree of latitude.

    Args:
        network: what is made of the pixels first.
    """
    mean, std = (np.array(v)[:, None, None] for v in (normaliser.mean, normaliser.std))
    step = network.stride if network is not None else 1
    reach = -(-network.radius_px // step) * step if network is not None else 0
    side = _BLOCK_PX // step * step
    counts, sines, values = np.zeros(_BELTS), np.zeros(_BELTS), np.zeros((len(normaliser.mean), _BELTS))
    for raster in rasters:
        positions, grid = coordinates_on(raster.grid, SINE), raster.grid
        height, width = (size // step * step for size in (grid.height, grid.width))
        with raster.windows(side + 2 * reach) as windows:
            for row in range(0, height, side):
                for col in range(0, width, side):
                    top, left = max(0, row - reach), max(0, col - reach)
                    end, right = min(height, row + side + reach), min(width, col + side + reach)
                    pixels, valid = physical(windows.read(Window(top, left, end - top, right - left)), raster)
                    image = (np.where(valid, pixels, mean) - mean) / std
                    if network is not None:
                        with torch.inference_mode():
                            image = network(torch.from_numpy(image).float()[None], None, None)[0].double().numpy()
                    inner = np.s_[row - top : row - top + side, col - left : col - left + side]
                    chosen, image = valid[inner], image[:, *inner]
                    sine = positions(Window(row, col, *chosen.shape))[0][chosen].astype(float)
                    belt = np.clip(np.degrees(np.arcsin(np.clip(sine, -1, 1))) + 90, 0, _BELTS - 1).astype(int)
                    counts += np.bincount(belt, minlength=_BELTS)
                    sines += np.bincount(belt, sine, _BELTS)
                    values += np.stack([np.bincount(belt, band[chosen], _BELTS) for band in image])
    known = np.maximum(counts, 1)
    return counts, sines / known, values / known
