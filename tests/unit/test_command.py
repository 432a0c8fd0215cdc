"""How a command ends: its exit code and its one sentence."""

from __future__ import annotations

import pytest
import typer

from tapeline.model import errors
from tapeline.program.command import run_program


def end_of(monkeypatch, capsys, work):
    """Run a program that does some work; return its exit code and standard error."""
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command()(work)
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit) as ended:
        run_program(program)
    return ended.value.code, capsys.readouterr().err


def raiser(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TapelineError("Mend it."), 1),
        (errors.UsageError("Mend it."), 2),
        (errors.TapeError("Mend it."), 2),
        (errors.ServiceUnavailableError("Mend it."), 3),
        (errors.PreflightError("Mend it."), 4),
        (errors.FeedError("Mend it."), 5),
        (errors.DeliveryError("Mend it."), 6),
        (errors.StreamError("Mend it."), 7),
    ],
)
def test_an_error_of_ours_is_its_sentence_and_its_code(monkeypatch, capsys, error, code):
    assert end_of(monkeypatch, capsys, raiser(error)) == (code, "Error: Mend it.\n")


def test_a_sentence_may_hold_brackets(monkeypatch, capsys):
    message = "It ends with: [main] ERROR [/127.0.0.1:19042] refused [red]"
    code, shown = end_of(monkeypatch, capsys, raiser(errors.LocalStackError(message)))
    assert code == 4
    assert " ".join(shown.split()) == f"Error: {message}"


def test_a_command_that_ends_well_exits_with_0(monkeypatch, capsys):
    assert end_of(monkeypatch, capsys, lambda: None) == (0, "")


def test_other_errors_keep_their_traceback(monkeypatch):
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command()(raiser(ZeroDivisionError("a bug")))
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_program(program)
