"""`make demo`: translates a real image of Jupiter with the bundled model and says what was measured."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from geoi2i.core.metrics import band_power, measured, psnr, ssim
from geoi2i.core.raster.source import RasterSource

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "resources" / "samples" / "jupiter-cassini.tif"
GREY = np.array([0.299, 0.587, 0.114])[:, None, None]


def main() -> None:
    folder = ROOT / "out"
    folder.mkdir(exist_ok=True)
    output, picture = folder / "jupiter-cassini_jupiter-rgb.tif", folder / "jupiter-cassini_jupiter-rgb.png"
    command = [sys.executable, "-m", "geoi2i", "run", "--input", str(SCENE), "--model", "jupiter-rgb",
               "--output", str(output), "--preview", str(picture), "--overwrite"]
    print("geoi2i " + " ".join(command[3:]).replace(str(ROOT) + "/", ""), flush=True)
    started = time.perf_counter()
    code = subprocess.run(command).returncode
    seconds = time.perf_counter() - started
    if code:
        sys.exit(code)
    before, after = (RasterSource.open(path) for path in (SCENE, output))
    a, b = (r.decimated(1 << 20).pixels.astype(np.float64) for r in (before, after))
    valid = np.ones(a.shape[1:], bool)
    _, mid, high = band_power((b * GREY).sum(0), valid, (1 / 32, 1 / 8, 1 / 4, 1 / 2)) / band_power(
        (a * GREY).sum(0), valid, (1 / 32, 1 / 8, 1 / 4, 1 / 2))
    means = [" ".join(f"{v:.0f}" for v in image.mean((1, 2))) for image in (a, b)]
    print(f"\nmean red green blue   {means[0]}  ->  {means[1]}")
    print(f"detail kept           {mid:.2f} of the mid and {high:.2f} of the high spatial frequencies' power")
    print(f"change                SSIM {measured(ssim(255), a, b):.3f}, PSNR {measured(psnr(255), a, b):.1f} dB to the "
          "input")
    print(f"time                  {seconds:.1f} s for {a[0].size / 1e6:.2f} Mpixel, start-up included")
    print("The scene is Cassini's, the model was trained on JunoCam: a demonstration, not a calibration.")


if __name__ == "__main__":
    main()
