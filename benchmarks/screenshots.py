"""Pictures of the plugin in a real QGIS, on a screen that nobody sees.

    python benchmarks/screenshots.py [--folder docs/images]

Needs QGIS, Xvfb and a window manager: apt install qgis python3-qgis xvfb openbox.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    program = shutil.which("qgis.bin") or shutil.which("qgis")
    if not program or not shutil.which("xvfb-run"):
        sys.exit("QGIS and Xvfb are needed: apt install qgis python3-qgis xvfb openbox.")
    with tempfile.TemporaryDirectory(prefix="geoi2i-screenshots-") as folder:
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        # QGIS takes the first python3 of the path for its own.
        path = os.pathsep.join([os.path.dirname(program), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "QGIS_CUSTOM_CONFIG_PATH": folder, "XDG_RUNTIME_DIR": str(runtime),
                       "GEOI2I_SHOTS": str(arguments.folder.resolve()), "GEOI2I_ROOT": str(ROOT),
                       "GEOI2I_SCRATCH": folder, "LC_ALL": "C.UTF-8", "QT_QPA_PLATFORM": "offscreen"}
        subprocess.run([sys.executable, "-m", "geoi2i", "qgis", "install"], check=True, env=environment)
        environment["QT_QPA_PLATFORM"] = "xcb"
        inside = Path(__file__).with_name("_screenshots_in_qgis.py")
        start = (f"openbox & manager=$!; timeout -k 5 300 {program} --noversioncheck --nologo --code {inside}; "
                 "kill $manager")
        subprocess.run(["xvfb-run", "-a", "-s", "-screen 0 1500x950x24", "bash", "-c", start], check=False,
                       env=environment)
    for name in ("toolbox", "dialog", "running", "result", "batch-rows", "batch"):
        print(arguments.folder / f"qgis-{name}.png")


if __name__ == "__main__":
    main()
