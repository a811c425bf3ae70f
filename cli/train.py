"""`geoi2i train`: train a model on two sets of rasters and export it."""

from pathlib import Path

import click

from .help import grouped
from .options import cancel_option, device_option, events_option, opens_once, set_option, verbose_option


@click.command(cls=grouped(
    Input="source target",
    Recipe="from set sweep steps",
    Compute="device threads",
    Output="output resume dry-run"))
@click.argument("recipe", metavar="METHOD|RECIPE")
@click.option("--source", multiple=True, metavar="SRC", help="Source rasters: file, folder or glob; may be repeated.")
@click.option("--target", multiple=True, metavar="DST", help="Target rasters: file, folder or glob; may be repeated.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the run: log, previews, checkpoint, and the model in DIR/<name>.")
@click.option("--from", "base", metavar="MODEL",
              help="Start from a model, by name or folder: its bands, its network and its weights.")
@set_option("Override a key of the recipe, for example optimiser.lr=1e-4. May be repeated.")
@click.option("--sweep", "sweeps", multiple=True, metavar="KEY=A,B,C",
              help="Train once for each value of a key, each in a folder of DIR, and compare them at the end.")
@click.option("--steps", type=click.IntRange(min=1), help="Number of training steps.  [default: the recipe's]")
@click.option("--resume", is_flag=True, help="Resume from the last checkpoint in DIR.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the data found, and stop.")
@device_option
@click.option("--threads", type=click.IntRange(min=1), metavar="N",
              help="CPU threads for the arithmetic; on a busy machine fewer can be faster.  [default: all cores]")
@events_option
@cancel_option
@verbose_option
@opens_once
def command(recipe, source, target, output, base, overrides, sweeps, steps, resume, dry_run, device, threads, events,
            verbose) -> None:
    """Train as a RECIPE says, a file or one that comes with geoi2i by its name, and export a model package.

    For unpaired rasters: sp_i2i, unsb, cut, fastcut, cyclegan, stegogan; for paired (co-registered) ones: plain,
    pix2pix, regression, sr3, resshift, flow, unidb, supresdiffgan, bbdm, cbbdm, dgdm, i2sb; for SAR and optical:
    cdiffset.

    \b
    geoi2i train sp_i2i --source junocam/ --target opal.tif --output runs/first
    geoi2i train recipe.toml --output runs/second --set optimiser.lr=1e-4 --resume
    """
    from .events import choose
    from .sweep import table, variants

    reporter = choose(events)
    if dry_run:
        click.echo(_describe(resolve_recipe(recipe, source, target, overrides, steps, _model(base))))
        return
    try:
        import kornia  # noqa: F401

        from ..training.loop import train
        from ..training.processes import connect
    except ImportError as error:
        raise click.ClickException(f"Training needs further packages ({error.name} is missing): "
                                   "pip install 'geoi2i[train]'.") from error
    from ..training.export import export_run

    if threads:
        import torch

        torch.set_num_threads(threads)
    _, processes = connect(device)
    with processes.together():
        model = _model(base)
        runs = {output / name: resolve_recipe(recipe, source, target, {**overrides, **swept}, steps, model)
                for name, swept in (variants(sweeps) if sweeps else [("", {})])}
        for folder, resolved in runs.items():
            if not (sweeps and (folder / resolved.name).exists()):  # a sweep that goes on
                _refuse(folder, resolved.name)

    def report(step, total, figures):
        shown = ", ".join(f"{k} {v:.3g}" for k, v in figures.items())
        reporter.message(f"step {step}: {shown}")
        reporter.progress(step, total, "training", "steps")

    for folder, resolved in runs.items():
        if (folder / resolved.name).exists():
            continue
        if sweeps:
            reporter.restart()
            reporter.message(f"Training {folder.name}:")
        run = train(resolved, folder, base=model, resume=resume or bool(sweeps), device=device, report=report,
                    message=reporter.message)
        if processes.main:
            reporter.message("Writing the model ...")
            export_run(run, folder / resolved.name)
    if not processes.main:
        return
    reporter.close()
    if sweeps:
        for line in table({folder.name: folder / resolved.name for folder, resolved in runs.items()}):
            reporter.message(line)
    reporter.done({str(path): f"Wrote the model {path}" for path in (
        folder / resolved.name for folder, resolved in runs.items())})


def _model(name: str | None):
    """The package that `--from` names."""
    from ..core.models.package import find_model

    return find_model(name) if name else None


def _refuse(output: Path, name: str) -> None:
    """Says so where the run cannot go to this folder."""
    from ..core.errors import RecipeError
    from ..training.loop import KEPT

    if name in KEPT:
        raise RecipeError(f"A model named {name} would stand where the run keeps its own {name}: choose another name.")
    if (output / name).exists():
        raise RecipeError(f"{output / name} holds a finished model: choose another --output.")


def resolve_recipe(recipe, source, target, overrides, steps, base=None):
    """The recipe with everything that the command line says about it, and a model that it goes on from."""
    from ..training.recipe import bundled_recipes, describe_bands, load_recipe

    pairs = dict(overrides)
    if steps:
        pairs["budget.steps"] = str(steps)
    for side, paths in (("source", source), ("target", target)):
        if paths:
            quoted = ", ".join('"' + str(p).replace("\\", "\\\\").replace('"', '\\"') + '"' for p in paths)
            pairs[f"data.{side}.paths"] = f"[{quoted}]"
    path = recipe if Path(recipe).is_file() else bundled_recipes().get(recipe, recipe)
    loaded = load_recipe(path, pairs)
    if base:
        from ..training.finetune import recipe_from

        loaded = recipe_from(loaded, base)
    return describe_bands(loaded)


def _describe(recipe) -> str:
    import json

    from ..training.recipe import as_json, find_rasters

    found = {side: len(find_rasters(getattr(recipe.data, side), side)) for side in ("source", "target")}
    return f"{json.dumps(as_json(recipe), indent=1)}\n{found['source']} source and {found['target']} target rasters"
