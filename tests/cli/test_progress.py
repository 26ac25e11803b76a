"""Progress on stderr: lines in a log, bars on a terminal, nothing when quiet."""

import io
import sys

import pytest
from rich.console import Console

from pretext.cli import progress as module
from pretext.cli.progress import LiveBars, PlainLines, choose_progress
from pretext.progress import Silent


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def stderr(monkeypatch, *, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


class TestChoice:
    def test_it_fits_where_stderr_goes(self, monkeypatch):
        stderr(monkeypatch, terminal=True)
        assert isinstance(choose_progress(quiet=False), LiveBars)
        assert isinstance(choose_progress(quiet=True), Silent)
        stderr(monkeypatch, terminal=False)
        assert isinstance(choose_progress(quiet=False), PlainLines)
        assert isinstance(choose_progress(quiet=True), Silent)


class TestSilent:
    def test_it_says_nothing(self, capsys):
        silent = Silent()
        silent.say("hello")
        with silent.task("x", 3, "steps", done=1) as task:
            task.advance(2, loss=0.5)
            task.advance()
        assert capsys.readouterr() == ("", "")


class TestPlainLines:
    def test_said_at_once_on_stderr(self, capsys):
        PlainLines().say("reading [bold]x[/bold]")
        assert capsys.readouterr() == ("", "reading [bold]x[/bold]\n")

    def test_a_line_every_few_seconds_and_one_at_the_end(self, capsys, clock):
        with PlainLines().task("training", 10, "steps") as task:
            for _ in range(4):
                task.advance(1)
                clock[0] += 2.0
            assert capsys.readouterr().err == "training: 4/10 steps rate 0.5 steps/s  left 12 s\n"
            task.advance(5, loss=0.123456, epoch=2)
            assert capsys.readouterr().err == ""
            clock[0] += 2.0
        assert capsys.readouterr().err == "training: 9/10 steps loss 0.1235  epoch 2  rate 0.8 steps/s  left 1 s\n"

    def test_without_a_total_there_is_none_left(self, capsys, clock):
        with PlainLines().task("models", None, "models") as task:
            task.advance(1)
            clock[0] += 4
            task.advance(2)
        assert capsys.readouterr().err == "models: 3 models rate 0.5 models/s\n"

    def test_nothing_done_has_no_rate(self, capsys, clock):
        with PlainLines().task("models", 3, "models"):
            clock[0] += 4
        assert capsys.readouterr().err == "models: 0/3 models\n"

    def test_done_before_a_restart_counts_but_not_for_the_rate(self, capsys, clock):
        with PlainLines().task("images", 100, "images", done=60) as task:
            task.advance(0)
            clock[0] += 10
            task.advance(20)
        assert capsys.readouterr().err.splitlines()[-1] == "images: 80/100 images rate 2 images/s  left 10 s"
        with PlainLines().task("steps", 100, "steps") as task:
            task.advance(60)  # the first report tells what was done before
            clock[0] += 10
            task.advance(20)
        assert capsys.readouterr().err.splitlines()[-1] == "steps: 80/100 steps rate 2 steps/s  left 10 s"

    def test_after_an_error_there_is_no_last_line(self, capsys):
        with pytest.raises(RuntimeError), PlainLines().task("x", 2, "steps") as task:  # noqa: PT012
            task.advance(1)
            raise RuntimeError
        assert capsys.readouterr() == ("", "")


class TestLiveBars:
    @pytest.fixture
    def bars(self):
        bars = LiveBars()
        assert bars.console.stderr
        bars.console = Console(file=io.StringIO(), force_terminal=True, width=160)
        return bars

    def test_a_bar_with_its_label_count_and_facts(self, bars):
        with bars.task("runs/[bold]x", 4, "steps", done=1) as task:
            task.advance(1, loss=0.123456)
            task.advance(2, epoch=3)
        last = [line for line in bars.console.file.getvalue().splitlines() if "steps" in line][-1]
        assert "runs/[bold]x" in last, "a name is not markup"
        assert "4/4" in last
        assert "loss 0.1235  epoch 3  rate " in last

    def test_without_a_total(self, bars):
        with bars.task("models", None, "models") as task:
            task.advance(3)
        assert "3/?" in bars.console.file.getvalue()

    def test_said_without_markup_and_colours(self, bars):
        bars.say("file [red]a[/red] 12")
        assert bars.console.file.getvalue() == "file [red]a[/red] 12\n"

    def test_it_writes_to_stderr(self, capsys):
        bars = LiveBars()
        bars.say("hello")
        with bars.task("x", 1, "steps") as task:
            task.advance()
        out, err = capsys.readouterr()
        assert out == ""
        assert "hello" in err
        assert "1/1" in err
