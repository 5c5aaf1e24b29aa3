"""Modes where several processes train: what is for one alone, and who says the end."""

import pytest

import tiny
from ssl_jax.cli import modes
from ssl_jax.core import processes
from ssl_jax.errors import UserError


def test_what_one_process_does_alone_is_refused_to_several():
    config = tiny.config("fixmatch.FixMatch")
    modes.check_together("train", config)
    config.num_seeds, config.query.rounds = 3, 2
    with pytest.raises(UserError) as error:
        modes.check_together("probe", config)
    for said in ("--mode=probe", "num_seeds=3", "query.rounds=2", "--num_processes=1"):
        assert said in str(error.value)


def test_the_first_alone_says_how_it_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modes, "run", lambda *_: None)
    modes.train({}, tmp_path)
    assert "stopped, and saved" in capsys.readouterr().out
    monkeypatch.setattr(processes, "is_first", lambda: False)
    modes.train({}, tmp_path)
    assert not capsys.readouterr().out
    monkeypatch.setattr(modes.tuning, "tune", lambda *_: None)
    modes.tune({}, tmp_path)
    assert "stopped, and saved" in capsys.readouterr().out
