"""The trace of a phase's steps; one of a whole run is in test_loop.py."""

from types import SimpleNamespace

import pytest

import tiny
from ssl_jax.errors import UserError
from ssl_jax.train import profiling, sections


def test_calls_are_traced_after_the_first_and_none_where_there_are_no_more(
    tmp_path, monkeypatch, capsys
):
    section = SimpleNamespace(steps_per_call=2)
    phase = SimpleNamespace(name="train", section=section, profile=3)
    made, traced = [], []
    monkeypatch.setattr(
        profiling.jax.profiler, "start_trace", lambda *_, **__: traced.append(len(made))
    )
    monkeypatch.setattr(
        profiling.jax.profiler, "stop_trace", lambda: traced.append(len(made))
    )
    for calls, between, said in (
        (6, [2, 4], "train: a trace of 4 steps is in"),  # 3, in whole calls
        (3, [2, 3], "train: a trace of 2 steps is in"),  # it ends before
        (2, [], "train: no trace: it had no call after the first 2"),
    ):
        made.clear(), traced.clear()
        with profiling.traced(made.append, phase, tmp_path) as call:
            for i in range(calls):
                call(i)
        assert (made, traced) == (list(range(calls)), between)
        assert said in capsys.readouterr().err
    phase.profile = 0
    with profiling.traced(made.append, phase, tmp_path) as call:
        assert call == made.append


def test_many_seeds_are_one_program():
    config = tiny.config()
    config.update(num_seeds=2, profile=3)
    with pytest.raises(UserError, match="profile=3 traces single steps, and num_seeds"):
        sections.parse(config)
