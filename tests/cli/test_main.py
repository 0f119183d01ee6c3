"""The command line's frame: help without torch, usage errors, exit statuses, interruptions and lost readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from videolm.cli.main import COMMANDS, guarded, main
from videolm.cli.output import one_line
from videolm.errors import ArgumentError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from videolm.cli.main import main; status = main(['--help']); "
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'tokenizers', 'huggingface_hub', 'tqdm', 'yaml', 'jinja2'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); sys.exit(status)"
    )
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_help_is_quick() -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", "videolm.cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    # Processor time, since a busy machine may keep a process waiting.
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: videolm {name} ")
    assert printed.err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("videolm 0.")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [],
            "videolm: no command: expected one of ask, chat, index, serve, inspect, models, convert, train, evaluate.",
        ),
        (["aks"], 'videolm: no command is called "aks"'),
        (["--frames"], 'videolm: no option is called "--frames"'),
        (["ask"], "videolm ask: the following arguments are required: MEDIA... QUESTION."),
        (["ask", "clip.mp4"], 'videolm ask: only one argument ("clip.mp4")'),
        (["ask", "clip.mp4", "What?", "--frmaes", "3"], "videolm ask: unrecognized arguments: --frmaes"),
        (
            ["ask", "clip.mp4", "What?", "--frames", "many"],
            "videolm ask: argument --frames: 'many' is neither a whole number nor auto.",
        ),
        (["ask", "clip.mp4", "What?", "--frames"], "videolm ask: argument --frames: expected one argument."),
        (["chat"], "videolm chat: the following arguments are required: MEDIA."),
        (["inspect"], "videolm inspect: the following arguments are required: MEDIA."),
        (["inspect", "clip.mp4"], "videolm inspect: neither --out nor --json"),
        (["train"], "videolm train: the following arguments are required: METHOD, CONFIG."),
        (["train", "dpo", "x.yaml"], "videolm train: argument METHOD: invalid choice: 'dpo'"),
        (["evaluate"], "videolm evaluate: the following arguments are required: --task."),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1


def test_the_nearest_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalute"]) == 2
    assert 'Did you mean "videolm evaluate"?' in capsys.readouterr().err


def test_a_users_mistake_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: throw(ArgumentError("frames is\n0: expected\tmore."))) == 1
    assert capsys.readouterr().err == "videolm: frames is 0: expected more.\n"


def test_an_interruption_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: throw(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: throw(MemoryError())) == 1
    assert capsys.readouterr().err.startswith("videolm: The memory of this machine")


def test_a_place_that_cannot_be_written_to_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: throw(PermissionError(13, "Permission denied", "/root/report.md"))) == 1
    assert capsys.readouterr().err == (
        "videolm: /root/report.md cannot be written: Permission denied. Expected room and permission to write there. "
        "Make some, or write elsewhere.\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    code = "import sys; from videolm.cli.main import main; sys.exit(main(['--help']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("videolm: The output cannot be written: No space left on device.")
    assert done.stderr.count("\n") == 1


def test_closed_standard_streams_are_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(sys, name, None)

    def run() -> int:
        print("heard by nobody")
        return len(sys.stdin.read())

    assert guarded(run) == 0
    sys.stdin.close()
    sys.stdout.close()


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


def test_control_characters_are_made_visible() -> None:
    assert one_line("a\x1b[31m\nb é") == "a\\x1b[31m b é"


@pytest.mark.skipif(os.name != "posix", reason="pipes that break as POSIX has them")
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys; from videolm.cli.main import guarded\n"
        "def run():\n  for _ in range(100000): print('x' * 50)\n  return 0\n"
        "sys.exit(guarded(run))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_media_and_options_may_interleave(monkeypatch: pytest.MonkeyPatch) -> None:
    from videolm.cli import ask

    seen: list[list[str]] = []
    monkeypatch.setattr(ask, "run", lambda args: seen.append([*args.words, args.frames, args.seed]) or 0)
    assert main(["ask", "--frames", "4", "a.mp4", "b.png", "--seed", "-7", "--", "- what?"]) == 0
    assert main(["ask", "a.mp4", "--frames", "4", "b.png", "--seed=1", "what?"]) == 0
    assert seen == [["a.mp4", "b.png", "- what?", 4, -7], ["a.mp4", "b.png", "what?", 4, 1]]


def throw(error: BaseException) -> int:
    raise error


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_is_quiet() -> None:
    code = (
        "import signal, sys, time; from videolm.cli.main import guarded\n"
        # What a terminal would have set; a test run in the background starts with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run():\n  print('ready', flush=True); time.sleep(60); return 0\n"
        "sys.exit(guarded(run))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 130
