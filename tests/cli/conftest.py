"""Run the command line in this process, with stages that only note how they were called."""

from __future__ import annotations

import re
import sys
import types

import pytest

from pretext.cli.app import STAGES, main

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Outcome(types.SimpleNamespace):
    """`code`, `out` and `err` of one command."""

    @property
    def words(self):
        """stdout without colours and frames, runs of blanks as one."""
        return " ".join(re.sub(r"[\u2500-\u257f]", " ", ANSI.sub("", self.out)).split())


@pytest.fixture
def run_cli(monkeypatch, capsys, tmp_path):
    """Call `pretext` with arguments in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERMINAL_WIDTH", "250")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pretext", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Outcome(code=caught.value.code or 0, out=out, err=err)

    return run


class FakeStage:
    """Stands for a stage's module: keeps its calls, and returns or raises what it was told to."""

    def __init__(self, module):
        self.module, self.calls, self.does = module, [], {"output": "runs/x", "status": "done"}

    def run(self, *arguments, **keywords):
        self.calls.append((arguments, keywords))
        if isinstance(self.does, BaseException):
            raise self.does
        return self.does(*arguments, **keywords) if callable(self.does) else dict(self.does)


@pytest.fixture
def stages(monkeypatch):
    """Every stage's module replaced by a fake, by command."""
    fakes = {}
    for command, _, module, _ in STAGES:
        fakes[command] = FakeStage(module)
        stand_in = types.ModuleType(f"pretext.stages.{module}")
        stand_in.run = fakes[command].run
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return fakes
