"""A budget becomes steps, and all that is counted in them."""

import re

import pytest

from configs import base, digits, folder
from ssl_jax.core import make_mesh
from ssl_jax.data import loading
from ssl_jax.errors import UserError
from ssl_jax.train import pace, phases, sections
from ssl_jax.train.pace import Pace


def test_longer():
    config = folder.get_config("dash")
    config.train.steps_per_call = 4
    config.train.optimizer.warmup_steps = 10
    longer = pace.longer(config, 2.5, ["train"]).train
    assert (longer.steps, longer.eval_every, longer.log_every) == (2500, 248, 124)
    assert longer.checkpoint_every == 248
    assert longer.optimizer.warmup_steps == 25
    assert longer.algorithm.warmup_steps == longer.algorithm.round_steps == 250
    assert config.train.steps == 1000 and longer.batch_size == config.train.batch_size
    least = pace.longer(config, 1e-9, ["train"]).train
    assert least.steps == least.eval_every == 4 and least.algorithm.warmup_steps == 1


def test_within(monkeypatch):
    """At 2 and 4 steps a second, of 200 and 100 steps: half of the time for each."""
    config = digits.get_config("debug")
    config.train.update(steps=200, eval_every=20)
    config.second = base.phase(config.train.algorithm)
    config.second.update(config.train.to_dict() | {"steps": 100})
    config.phases = ("train", "second")
    paces = iter([Pace(2.0, 8.0, 0.5), Pace(1.0, 12.0, 0.0)])
    monkeypatch.setattr(pace, "measured", lambda phase, data: next(paces))
    paced = pace.within(config, 630.0, make_mesh())
    # 10 evaluations, 20 s of compiling, 4 around: 200 s become
    left = 0.95 * (630 - 5 - 20 - 4)
    assert paced.train.steps == pytest.approx(left, rel=0.02)
    assert paced.second.steps == pytest.approx(left / 2, rel=0.02)
    assert paced.train.eval_every == round(20 * paced.train.steps / 200)
    paces = iter([Pace(2.0, 8.0, 0.5), Pace(1.0, 12.0, 0.0)])
    with pytest.raises(UserError, match=re.escape("train does 2 steps/s")) as refused:
        pace.within(config, 9.0, make_mesh())
    assert "give it 0." in str(refused.value)


def test_what_is_measured_is_compiled_anew(monkeypatch):
    config = digits.get_config("debug")
    monkeypatch.setattr(pace.time, "time_ns", lambda: 9973 * 7 + 5)
    anew = pace._anew(config).train
    assert anew.steps == config.train.steps + 5 * config.train.steps_per_call
    assert anew.optimizer == config.train.optimizer


def test_as_there():
    config = folder.get_config("dash")
    there = pace.longer(config, 3, ["train"]).to_dict()
    config.train.update(batch_size=8, steps=7)
    again = pace.as_there(config, there)
    assert again.train.steps == 3000 and again.train.algorithm.warmup_steps == 300
    assert again.train.batch_size == 8
    assert pace.as_there(config, {}).train.steps == 7


def test_measured(monkeypatch):
    """Of a phase that trains and evaluates, compiled."""
    monkeypatch.setattr(pace, "_SECONDS", 0.02)
    mesh = make_mesh()
    run = sections.parse(digits.get_config("supervised,debug"), mesh.size)
    data = loading.load(run.data, mesh, seed=0)
    its = pace.measured(phases.build(run, run.trained["train"], data, mesh), data)
    assert min(its) > 0
