"""How to evaluate, and the metrics that this asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Geoi2iError, RasterError
from ..metrics import Measure, Score, Undefined
from ..metrics.catalogue import METRICS, Images, Kind
from ..metrics.pansharpening import GAINS
from ..raster.limits import STANDARD, Limits
from ..validation import nearest
from .compare import ResampleTo


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate."""

    metrics: tuple[str, ...] = ()
    """Names of the catalogue; none: the usual ones of each comparison."""
    resample_to: ResampleTo | None = None
    """Whose grid is taken where pixels do not coincide; None: refused."""
    resampling: str = "bilinear"
    value_range: tuple[float, float] | None = None
    """Values shown as black and as full, in the data's units; None: 0 to 255 for 8 bits, else percentiles."""
    ratio: float | None = None
    """Pixel size of the source over the prediction's; None: measured."""
    rgb: tuple[int, int, int] | None = None
    """Bands (from 1) of the prediction that are red, green and blue; None: as marked, or the only three."""
    sensor: str | None = None
    weights: Path | None = None
    seams: int | None = None
    """Step of the windows whose borders are looked for; 0: any; None: not looked for."""
    limits: Limits = STANDARD
    """How far the rasters are trusted."""

    def __post_init__(self):
        for name in self.metrics:
            if name not in (*METRICS, "qnr", "hqnr"):
                known = [*METRICS, "qnr", "hqnr"]
                hint = nearest(name, known) or f"choose from {', '.join(known)}."
                raise RasterError(f"Metric {name!r} is unknown: {hint}")
        if self.sensor and self.sensor not in GAINS:
            raise RasterError(f"The blur of sensor {self.sensor!r} is unknown: choose from {', '.join(GAINS)}, or "
                              "leave --sensor out for a gain of 0.3.")
        if self.value_range and not self.value_range[0] < self.value_range[1]:
            raise RasterError(f"The range {self.value_range} is empty: give the value of black, then that of full.")


def choose_metrics(options: EvaluationOptions, images: Images, kinds: tuple[Kind, ...],
                   usual: Sequence[str] | None = None) -> dict[str, Measure | Score]:
    """Metrics of some kinds by name, made; a score without value where one cannot be.

    Args:
        usual: names of those that are taken where none is asked for; None: the catalogue's.
    """
    names = [n for n in options.metrics if n in METRICS] or usual or [n for n, m in METRICS.items() if m.usual]
    made: dict[str, Measure | Score] = {}
    for name in names:
        if METRICS[name].kind in kinds:
            try:
                made[name] = METRICS[name].make(images)
            except (Undefined, Geoi2iError) as error:
                note = f"{name} has no value: {str(error).rstrip('.')}."
                made[name] = Score(name, float("nan"), "", 0, 0, {}, note)
    return made
