"""The command line, run inside the process of the tests: an interpreter that imports torch takes seconds to start."""

import contextlib
import os
from typing import NamedTuple

import pytest
from geoi2i.cli import events
from geoi2i.cli.main import main


class Ended(NamedTuple):
    """What a command has left, by the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def geoi2i(capfd, monkeypatch):
    """`geoi2i("run", "-i", path, cwd=folder)`: the command as it ended; what no command may raise fails the test.

    `--events json`, signals and standard input belong to a whole process, and are tested in one.
    """

    def run(*arguments, cwd=None):
        assert "--events" not in arguments
        monkeypatch.setattr(events, "_reporter", None)
        capfd.readouterr()
        with contextlib.chdir(cwd or os.getcwd()), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Ended(ended.value.code, *capfd.readouterr())

    return run
