"""A long reading says how far it is, a short one nothing."""

import sys

import pytest

from ssl_jax.data import progress


@pytest.fixture
def clock(monkeypatch):
    """Two seconds pass at each look at it."""
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))


def test_plain_lines_after_some_seconds(clock, capsys):
    assert list(progress.shown(range(12), 12, "decoding images")) == list(range(12))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "decoding images: 2 of 12, 20 s left",
        "decoding images: 7 of 12, 10 s left",
    ]
    blocks = [[0] * 500] * 3
    assert list(progress.shown(blocks, 1_500, "decoding images", len)) == blocks
    assert capsys.readouterr().err == "decoding images: 1,000 of 1,500, 2 s left\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_short_one_says_nothing(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert list(progress.shown("abc", 3, "decoding images")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    assert len(list(progress.shown(range(1_000), 1_000, "decoding images"))) == 1_000
    assert "decoding images:" in capsys.readouterr().err
