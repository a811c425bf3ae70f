"""What experiments share: a training in a process of its own, made once, and a page that keeps what people wrote."""

import json
import subprocess
import sys
import time
from pathlib import Path

_PROGRAM = """
import json, sys
from pathlib import Path
import torch
from geoi2i.training.export import export_run
from geoi2i.training.loop import train
from geoi2i.training.recipe import describe_bands, make_recipe
torch.set_num_threads(1)
output, device = Path(sys.argv[1]), sys.argv[2]
recipe = describe_bands(make_recipe(json.load(sys.stdin), {}, "the experiment"))
export_run(train(recipe, output, resume=True, device=device), output / recipe.name)
"""
_MARK = "\n## What this says"


def trained(recipe: dict, output: Path, device: str) -> float:
    """Seconds that the training took, now or when it was made; NaN where it did not come to its end, and why on the
    screen. The model stands in `output / recipe["name"]`; one of another recipe there ends the experiment."""
    record = output / "made.json"
    if (output / recipe["name"]).is_dir() and record.exists():
        made = json.loads(record.read_text())
        if made["recipe"] != json.loads(json.dumps(recipe)):
            raise SystemExit(f"{output} holds a model of another recipe: remove it, or choose another --runs.")
        return made["seconds"]
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(output), device], input=json.dumps(recipe), text=True,
                          capture_output=True)
    seconds = time.monotonic() - started
    if done.returncode:
        print(f"{output.name} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return float("nan")
    record.write_text(json.dumps({"seconds": seconds, "recipe": recipe}))
    print(f"{output.name}: {seconds:.0f} s", flush=True)
    return seconds


def write_page(path: Path, text: str) -> None:
    """Writes figures, and below them what stood there under a heading of its own."""
    old = path.read_text() if path.exists() else ""
    path.write_text(text.rstrip("\n") + "\n" + (_MARK + old.split(_MARK, 1)[1] if _MARK in old else ""))
