"""What goes to stdout and stderr, and the exit code that says what kind of error it was."""

import json
import subprocess
import sys

import pytest

from pretext.cli.errors import call, one_line
from pretext.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    DeviceError,
    PretextError,
    UnknownVariantError,
    UsageError,
)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (UsageError("two data sets", hint="--data x"), 2),
            (ConfigError("--lr is wrong", hint="--lr 1"), 3),
            (UnknownVariantError("no such loss", hint="pretext list"), 3),
            (ArtifactError("no run", hint="pretrain"), 4),
            (DataError("corrupt", hint="download again"), 5),
            (DeviceError("no cuda", hint="--device cpu"), 6),
            (PretextError("loss is nan", hint="--lr"), 1),
        ],
    )
    def test_an_error_for_people_is_two_lines_on_stderr(self, run_cli, stages, error, code):
        stages["pretrain"].does = error
        outcome = run_cli("pretrain")
        assert outcome.code == code
        assert outcome.out == ""
        assert outcome.err == f"error: {error.message}\nhint: {error.hint}\n"

    def test_what_the_disk_refuses_is_one_sentence_with_the_file(self, run_cli, stages):
        stages["pretrain"].does = PermissionError(13, "Permission denied", "runs/x")
        outcome = run_cli("pretrain")
        assert (outcome.code, outcome.err) == (4, "error: Permission denied: runs/x\n")

    def test_without_a_hint_it_is_one_line(self, run_cli, stages):
        stages["pretrain"].does = ArtifactError("no run")
        assert run_cli("pretrain").err == "error: no run\n"

    def test_a_config_error_has_a_line_for_each_problem(self, run_cli, stages):
        stages["pretrain"].does = ConfigError(["--a is wrong", "--b too"], hint="look at --help")
        assert run_cli("pretrain").err == "error: --a is wrong\nerror: --b too\nhint: look at --help\n"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["pretrain", "--bogus"], "No such option: --bogus"),
            (["pretrain", "--epochs", "many"], "Invalid value for '--epochs'"),
            (["pretrain", "extra"], "unexpected extra argument"),
            (["pretrain", "--lr"], "requires an argument"),
        ],
    )
    def test_words_that_can_not_be_parsed_are_usage_errors(self, run_cli, stages, words, said):
        outcome = run_cli(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert said in " ".join(outcome.err.split())
        assert "Traceback" not in outcome.err

    def test_an_interrupt_says_how_to_go_on(self, run_cli, stages):
        stages["pretrain"].does = KeyboardInterrupt()
        outcome = run_cli("pretrain")
        assert (outcome.code, outcome.out) == (130, "")
        assert outcome.err == "interrupted: run the same command again to go on from here\n"

    @pytest.mark.parametrize(
        "error", [MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
                  RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
    )  # fmt: skip
    def test_no_memory_is_no_bug(self, run_cli, stages, error):
        stages["pretrain"].does = error
        outcome = run_cli("pretrain")
        assert (outcome.code, outcome.err) == (6, "error: not enough memory\nhint: a smaller --batch-size\n")

    def test_a_bug_says_so_and_how_to_see_where(self, run_cli, stages):
        stages["pretrain"].does = ZeroDivisionError("division by zero")
        outcome = run_cli("pretrain")
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err == (
            "error: this is a bug: ZeroDivisionError: division by zero\nhint: --debug shows where; please report it\n"
        )

    def test_the_readers_leaving_is_no_bug(self):
        def work():
            raise BrokenPipeError

        with pytest.raises(SystemExit) as caught:
            call(work, debug=False)
        assert caught.value.code == 1

    def test_a_reader_that_left_sees_no_error(self):
        process = subprocess.Popen(
            [sys.executable, "-m", "pretext", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        process.wait(60)
        assert err == b""

    def test_success_passes_and_other_exits_keep_their_code(self):
        done = []
        call(lambda: done.append(1), debug=False)
        assert done == [1]
        with pytest.raises(SystemExit) as caught:
            call(lambda: sys.exit(7), debug=False)
        assert caught.value.code == 7


class TestDebug:
    def test_an_error_for_people_has_its_traceback_before_it(self, run_cli, stages):
        stages["pretrain"].does = ArtifactError("no run", hint="pretrain")
        assert "Traceback" not in run_cli("pretrain").err
        outcome = run_cli("pretrain", "--debug")
        assert outcome.code == 4
        assert outcome.err.startswith("Traceback (most recent call last)")
        assert outcome.err.endswith("ArtifactError: no run\nerror: no run\nhint: pretrain\n")

    def test_a_bug_comes_out_as_it_is(self, run_cli, stages):
        stages["pretrain"].does = ZeroDivisionError("division by zero")
        with pytest.raises(ZeroDivisionError):
            run_cli("pretrain", "--debug")


class TestControlCharacters:
    def test_what_a_terminal_would_obey_is_shown(self):
        assert one_line("a\x1b[31mb\nc\td\x07\x9b\x7f") == r"a\x1b[31mb\nc\td\x07\x9b\x7f"
        assert one_line("caf\u00e9 \u6f22 'x' \\n") == "caf\u00e9 \u6f22 'x' \\n"
        assert one_line("\u202eevil \udcff") == r"\u202eevil \udcff"

    def test_in_every_kind_of_message(self, run_cli, stages):
        for error in (
            ArtifactError("a\x1b[2Jb", hint="c\rd"),
            ConfigError(["a\x1b[2Jb"], hint="c\rd"),
            RuntimeError("a\x1b[2Jb"),
        ):
            stages["pretrain"].does = error
            err = run_cli("pretrain").err
            assert r"a\x1b[2Jb" in err
            assert "\x1b" not in err
            assert "\r" not in err
            assert err.count("\n") == 2


class TestOutput:
    OUTCOME = {"output": "runs/x", "status": "done", "images": {"train": 12345, "test": 0.123456},
               "fits": True, "changed": False, "absent": [], "nothing": None, "empty": "", "also": ["a", 2],
               "zero": 0}  # fmt: skip

    def test_for_people(self, run_cli, stages):
        stages["report"].does = self.OUTCOME | {"text": "a table"}
        outcome = run_cli("report", "runs")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == (
            "runs/x: done\n  images: train 12,345, test 0.1235\n  fits: yes\n  changed: no\n  also: a, 2\n  zero: 0\n"
            "a table\n"
        )

    def test_json_is_one_document_without_text(self, run_cli, stages):
        stages["report"].does = self.OUTCOME | {"text": "a table"}
        outcome = run_cli("report", "runs", "--json")
        assert json.loads(outcome.out) == self.OUTCOME
        assert outcome.out.count("\n") == 1

    def test_quiet_is_the_path_alone(self, run_cli, stages):
        stages["report"].does = self.OUTCOME | {"text": "a table"}
        assert run_cli("report", "runs", "--quiet").out == "runs/x\n"

    def test_json_and_quiet_is_json(self, run_cli, stages):
        stages["report"].does = self.OUTCOME
        assert json.loads(run_cli("report", "runs", "--json", "--quiet").out) == self.OUTCOME

    def test_progress_goes_to_stderr_and_never_into_the_json(self, run_cli, stages):
        def work(config, *, explicit, progress):
            progress.say("reading 3 runs")
            with progress.task("drawing", 2, "figures") as task:
                task.advance(2)
            return {"output": "report", "status": "done"}

        stages["report"].does = work
        outcome = run_cli("report", "runs", "--json")
        assert json.loads(outcome.out) == {"output": "report", "status": "done"}
        assert outcome.err.splitlines() == ["reading 3 runs", "drawing: 2/2 figures"]
        assert run_cli("report", "runs", "--quiet").err == ""
