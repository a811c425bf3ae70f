"""The help of every command is read before it changes: `make golden` writes it anew."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
from help_texts import TEXTS, all_help


def test_the_help_of_all_commands_is_what_was_last_read():
    assert all_help() == TEXTS.read_text(encoding="utf-8"), "run make golden and read what changed"


def test_no_command_is_missing():
    from geoi2i.cli.main import COMMANDS

    found = all_help()
    assert all(f"$ geoi2i {command} --help" in found for command in COMMANDS)
