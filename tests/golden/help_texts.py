"""The help of all commands, as text: `python tests/golden/help_texts.py` writes what tests/cli/test_help.py holds."""

from pathlib import Path

import click
from click.testing import CliRunner
from geoi2i.cli.main import group

TEXTS = Path(__file__).with_name("help.txt")


def all_help() -> str:
    """The help of the group and of every command below it, 100 columns wide."""
    return "\n".join(f"$ geoi2i {' '.join(path)} --help\n{text(path)}" for path in ((), *paths(group)))


def paths(command: click.Group, before: tuple[str, ...] = ()):
    for name in sorted(command.list_commands(click.Context(command))):
        inner = command.get_command(click.Context(command), name)
        yield *before, name
        if isinstance(inner, click.Group):
            yield from paths(inner, (*before, name))


def text(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(group, [*path, "--help"], prog_name="geoi2i", terminal_width=100)
    if result.exit_code:
        raise RuntimeError(result.output)
    return result.output


if __name__ == "__main__":
    TEXTS.write_text(all_help(), encoding="utf-8")
