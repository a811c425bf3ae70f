"""`geoi2i train --sweep KEY=A,B,C`: one training for each value, and one table at the end."""

import itertools
import re
from pathlib import Path


def variants(given: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Every combination of the values that keys are to have, each with a name for its folder.

    Raises:
        RecipeError: for a text that is not KEY=A,B,C with two values or more.
    """
    from ..core.errors import RecipeError

    columns = []
    for text in given:
        key, _, values = text.partition("=")
        found = [value.strip() for value in values.split(",")]
        if not key or len(found) < 2 or not all(found) or len(set(found)) < len(found):
            raise RecipeError(f"--sweep {text} must be a key and different values, for example "
                              "optimiser.lr=1e-4,3e-4,1e-3.")
        columns.append([(key, value) for value in found])
    made = []
    for pairs in itertools.product(*columns):
        name = "_".join(f"{key.split('.')[-1]}-{value}" for key, value in pairs)
        made.append((re.sub(r"[^A-Za-z0-9._-]", "-", name), dict(pairs)))
    return made


def table(models: dict[str, Path]) -> list[str]:
    """Lines with what the validation of each model found, the best first."""
    from ..core.models.package import ModelPackage
    from ..training.validation import Comparison

    found = {name: Comparison.from_json(ModelPackage.load(folder).manifest.metrics["validation"])
             for name, folder in models.items()}
    best = sorted(found, key=lambda name: found[name].error)
    first = found[best[0]]
    width = max(len(name) for name in (*best, *first.closed_forms)) + 2
    return [f"On {first.where}:",
            *(f"  {name:<{width}}{found[name].shown(found[name].network)}" for name in best),
            *(f"  {name:<{width}}{first.shown(figures)}" for name, figures in first.closed_forms.items())]
