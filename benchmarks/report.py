"""A report to look at: the sample translated by the bundled model, measured against its source; at three widths.

The page is put into out/report; with --write DIR its pictures too, which need Chromium.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "resources" / "samples" / "jupiter-cassini.tif"
VIEWS = {"wide": (1280, 1450), "tablet": (768, 1450), "phone": (390, 1450)}
"""Width and height of the window in pixels."""


def geoi2i(*arguments) -> None:
    subprocess.run([sys.executable, "-m", "geoi2i", *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="DIR", help="where the pictures go")
    wanted = parser.parse_args()
    out = ROOT / "out"
    out.mkdir(exist_ok=True)
    translated, spread = out / "jupiter.tif", out / "jupiter-spread.tif"
    geoi2i("run", "--input", SCENE, "--model", "jupiter-rgb", "--output", translated, "--samples", 4, "--uncertainty",
           spread, "--overwrite")
    geoi2i("evaluate", "--prediction", translated, "--source", SCENE, "--seams", "--report", out / "report",
           "--json", out / "report.json", "--overwrite")
    if wanted.write:
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if browser is None:
            sys.exit("Chromium is not here (on Debian: apt install chromium).")
        for name, (width, height) in VIEWS.items():
            subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                            f"--window-size={width},{height}", f"--screenshot={wanted.write / f'report-{name}.png'}",
                            (out / "report" / "index.html").as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
