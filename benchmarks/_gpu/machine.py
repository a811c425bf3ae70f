"""What the figures were taken on, and what its buses and arithmetic can do at best."""

import os
import platform

import torch

from .common import Job


def run(job: Job) -> None:
    """Names, versions; copies between machine and device; matrix products."""
    import rasterio

    device, gpu = job.device, job.device.type == "cuda"
    job.tell(table="machine", device=torch.cuda.get_device_name(device) if gpu else platform.machine(),
             memory_gb=round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1) if gpu else None,
             cores=len(os.sched_getaffinity(0)), python=platform.python_version(), torch=torch.__version__,
             cudnn=torch.backends.cudnn.version() if gpu else None, rasterio=rasterio.__version__,
             gdal=rasterio.__gdal_version__)
    count = 1 << (28 if gpu else 16)
    here, there = torch.empty(count, dtype=torch.uint8), torch.empty(count, dtype=torch.uint8, device=device)
    kinds = {"pageable": here, **({"pinned": here.pin_memory()} if gpu else {})}
    for name, buffer in kinds.items():
        for way, copy in (("to the device", lambda b=buffer: there.copy_(b, non_blocking=True)),
                          ("to the machine", lambda b=buffer: b.copy_(there, non_blocking=True))):
            job.tell(table="copies", way=f"{way}, {name}", gb_per_s=count / job.seconds(copy) / 1e9)
    job.tell(table="copies", way="on the device, read and written",
             gb_per_s=2 * count / job.seconds(lambda: there.clone()) / 1e9)
    side = 8192 if gpu else 64
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(side, side, device=device).to(dtype)
        job.tell(table="products", dtype=str(dtype).removeprefix("torch."), side=side,
                 tflop_per_s=2 * side**3 / job.seconds(lambda a=a: a @ a) / 1e12)
