"""What a search remembers, and how it goes on."""

import json

import pytest

from ssl_jax.tuning import search
from ssl_jax.tuning.space import Choice, Number
from ssl_jax.tuning.study import PARTS, Study, figure
from ssl_jax.workdir.policy import SEARCH

SPACE = {"rate": Number(0.01, 1.0, log=True), "name": Choice(("a", "b"))}


def judged(study, value, at=(1, 3, 9)):
    """Whether a trial with these figures is ended early."""
    trial, _ = study.ask(SPACE)
    for part in at:
        trial.report(value, part)
        if part < PARTS and trial.should_prune():
            study.prune(trial)
            return True
    study.tell(trial, value)
    return False


def test_the_lower_loss_wins_among_equal_accuracies_alone():
    assert figure(0.8, 0.5) > figure(0.8, 0.6) > figure(0.79, 0.0)
    assert figure(0.0, float("inf")) > -0.01


def test_a_trial_goes_on_as_one_of_the_best_third(tmp_path):
    study = Study(tmp_path, seed=0)
    ended = [judged(study, value) for value in (0.5, 0.4, 0.6, 0.45, 0.7)]
    assert ended == [False, True, False, True, False]
    assert [trial.value for trial in study.best] == [0.7, 0.6, 0.5]
    assert len(study.trials) == 5


def test_parts_of_a_trial():
    assert search.stops(999) == {1: 111, 3: 333, 9: 999}
    assert list(search.stops(9).values()) == [1, 3, 9]


def test_what_is_queued_comes_first_and_within_its_range(tmp_path):
    study = Study(tmp_path, seed=0)
    study.queue({"rate": 7.0, "name": "b", "other": 1}, SPACE, own=True)
    trial, chosen = study.ask(SPACE)
    assert chosen == {"rate": 1.0, "name": "b"} and trial.user_attrs["own"]


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path):
    """What it had drawn it tries again, and what it draws next is what it would have;
    a line that was half written is no line."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    study, drawn = Study(whole, seed=3), []
    for value in (0.1, 0.2, 0.3):
        trial, chosen = study.ask(SPACE)
        study.tell(trial, value)
        drawn.append(chosen)

    before = Study(killed, seed=3)
    trial, chosen = before.ask(SPACE)
    before.tell(trial, 0.1)
    before.note("spent", 12.5)
    trial, lost = before.ask(SPACE)
    trial.set_user_attr("own", True)
    assert [chosen, lost] == drawn[:2]
    with (killed / SEARCH).open("a") as file:
        file.write('{"op_code": 9, "tri')

    after = Study(killed, seed=3)
    assert after.known("spent") == 12.5 and after.known("stages") is None
    assert after.again() == 1
    trial, chosen = after.ask(SPACE)
    assert chosen == lost and trial.user_attrs["own"]
    after.tell(trial, 0.2)
    assert after.again() == 0
    assert after.ask(SPACE)[1] == drawn[2]
    lines = (killed / SEARCH).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_without_optuna_there_is_one_message(tmp_path, monkeypatch):
    import sys

    from ssl_jax.errors import UserError

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="pip install optuna"):
        Study(tmp_path, seed=0)
