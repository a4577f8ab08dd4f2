from __future__ import annotations

import pytest

import train.engine.progress
from train.engine.progress import say, steps, track


def test_items_pass_through_and_nothing_is_written_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    say("[bold]as it is[/bold]")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "[bold]as it is[/bold]\n"


def test_without_a_terminal_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with steps("work", 9) as counter:
        counter.advance()
        monkeypatch.setattr(train.engine.progress, "LINE_EVERY_S", 0.0)
        counter._next_line_s = 0.0
        counter.advance(4, "loss 1")
        counter.write("  an epoch")
    assert capsys.readouterr().err == "  work: 5/9 steps  loss 1\n  an epoch\n"
