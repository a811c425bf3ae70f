"""The `geoi2i` command: its commands, its exit codes, and one sentence for every expected failure."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator

import click

from .. import __version__
from .interrupt import ending_by_signals

COMMANDS = {"run": "Translate rasters with a model.",
         "reproject": "Reproject rasters.",
         "info": "Show what geoi2i sees of a raster, and which models suit it.",
         "fit": "Fit a linear, moment, transport or histogram model in seconds.",
         "train": "Train a model on two sets of rasters.",
         "evaluate": "Compute quality metrics and a report.",
         "experiment": "Run a published comparison on your own rasters.",
         "models": "List, show and verify models.",
         "qgis": "Install and check the QGIS plugin.",
         "doctor": "Show what this installation can use."}

# Where HDF5 looks for files that a file names by a relative path: below a file, where none can be. A second lock: such
# files are refused before they are opened.
_HDF5 = {f"HDF5_{kind}_PREFIX": os.path.join(os.devnull, "none") for kind in ("VDS", "EXT", "EXTFILE")}


class LazyGroup(click.Group):
    """Imports a command's module only when it is used, so that `--help` is instant."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f".{name}", __package__).command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geoi2i")
def group() -> None:
    """Translate georeferenced rasters from one sensor to another.

    \b
    geoi2i run --input scene.tif
    geoi2i COMMAND --help
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 a bug, 2 bad input or environment, 130 interrupted."""
    sys.unraisablehook = _unraisable
    arguments = sys.argv[1:] if arguments is None else arguments
    with _environment(_HDF5), ending_by_signals():
        code = _run(arguments, "-v" in arguments or "--verbose" in arguments)
    sys.exit(code)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment, and sets them back: a program may call `main` as a function."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def _run(arguments: list[str], verbose: bool) -> int:
    """Runs a command, and says in one sentence why it failed; its exit code."""
    code = 0
    try:
        code = group(arguments, prog_name="geoi2i", standalone_mode=False) or 0
    except click.exceptions.Abort:
        code = _fail("Interrupted; nothing was left under the output's name.", 130)
    except click.ClickException as error:
        error.show()
        code = 2
    except click.exceptions.Exit as error:
        code = error.exit_code
    except BrokenPipeError:
        code = 2
    except KeyboardInterrupt:
        code = _fail("Interrupted; nothing was left under the output's name.", 130)
    except Exception as error:
        code = _report(error, verbose)
    return code


def _report(error: Exception, verbose: bool) -> int:
    from ..core.errors import Geoi2iError, of_environment, sentence

    if isinstance(error, Geoi2iError) or of_environment(error):
        if verbose:
            import traceback

            traceback.print_exc()
        return _fail(f"Error: {sentence(error)}", getattr(error, "exit_code", 2))
    if isinstance(error, ModuleNotFoundError) and not (error.name or "geoi2i").startswith("geoi2i"):
        return _fail(f"Error: {sys.executable} lacks the package {error.name}: install it with "
                     f"{sys.executable} -m pip install {error.name}", 2)
    raise error


def _fail(sentence: str, code: int) -> int:
    from .events import current

    current().failed(sentence.removeprefix("Error: "), code)
    return code


def _unraisable(what) -> None:
    """Keeps to itself that rasterio cannot decode a message of GDAL that quotes a damaged file."""
    if not (isinstance(what.exc_value, UnicodeDecodeError) and "log_error" in str(what.object)):
        sys.__unraisablehook__(what)
