"""The fallback from too little memory, provoked: the run goes on with less, and its result is that of a small batch."""

import numpy as np
import torch

from .common import Job, convolutions, scene

_BATCH = 64


def run(job: Job) -> None:
    """A batch that does not fit into the share of the GPU's memory that the process may have."""
    import rasterio
    from geoi2i.core.models.package import ModelPackage
    from geoi2i.core.run import Callbacks, Compute, Options, translate_raster

    side, tile, said = job.sizes.shared_px, job.sizes.tile_px, []
    path, package = scene(job, side), ModelPackage.load(convolutions(job))

    def made(name: str, batch: int) -> np.ndarray:
        translate_raster(path, job.folder / f"{name}.tif", package, Options(tile=tile, overlap=0, precision="fp32"),
                         compute=Compute(str(job.device), batch), overwrite=True, resume=False,
                         callbacks=Callbacks(message=said.append))
        with rasterio.open(job.folder / f"{name}.tif") as data:
            return data.read()

    if not job.toy:
        torch.cuda.reset_peak_memory_stats()
    wanted = made("small", 1)
    if job.toy:
        _provoke_on_cpu()
    else:
        one, total = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(job.device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, 3 * one / total))
        job.tell(table="memory", one_window_gb=one / 1e9, allowed_gb=3 * one / 1e9)
    found = made("large", _BATCH)
    off = int(np.abs(found.astype(int) - wanted).max())
    told = [text for text in said if "ran out of memory" in text]
    job.tell(table="memory", batch_asked=_BATCH, fell_back=len(told), said=told[-1] if told else None, max_error_dn=off)
    job.goal("out of memory: falls back, and by rounding alone the same", "a fallback, at most 1 DN", off,
             bool(told) and off <= 1)


def _provoke_on_cpu() -> None:
    """Every network call of more than two windows says what a GPU says."""
    from geoi2i.core.networks.catalogue import NETWORKS

    kind = NETWORKS["benchmark"]
    forward = kind.forward

    def limited(self, image, *others):
        if len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory, as this benchmark has it.")
        return forward(self, image, *others)

    kind.forward = limited
