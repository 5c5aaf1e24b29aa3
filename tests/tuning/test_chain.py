"""Phases that follow one another, tuned in one go."""

import json
import os
import signal

import jax
import pytest

import tiny
from configs import base
from ssl_jax.cli import policies
from ssl_jax.core import make_mesh
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError
from ssl_jax.train import loop, sections
from ssl_jax.train import run as runs
from ssl_jax.tuning import chain, learning_rate, paces, results, tune
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.chain import Plan
from ssl_jax.tuning.paces import Pace
from ssl_jax.tuning.results import Found
from ssl_jax.tuning.study import Study
from ssl_jax.workdir import handover, logs, policy, settings
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.workdir import Workdir

SUPERVISED = "supervised.Supervised"


def config(first=SUPERVISED, second=SUPERVISED, **changes):
    """LARS has no other optimizer in its place: a program for each phase."""
    run = tiny.config(first)
    run.second = base.phase(base.algorithm(second))
    run.second.update(start_from="train", keep=("encoder",))
    run.phases, run.model = ("train", "second"), base.model("mlp", features=(16,))
    for name in run.phases:
        if "shift" in run[name].augment:
            run[name].augment.update(flip=False, shift=1)
        run[name].optimizer.name = "lars"
        run[name].update(batch_size=8, steps=18, steps_per_call=1, unlabeled_ratio=0)
    run.second.update({f: run.train[f] for f in ("log_every", "checkpoint_every")})
    run.train.update(loss_patience=1, loss_gain=0.99, eval_every=2)
    run.data.update(num_labels=20, num_validation=10)
    run.tune.update(minutes=0.0, trials=2)
    run.update_from_flattened_dict(changes)
    return run


class Killed(Exception):
    pass


def test_a_chain_killed_in_each_of_its_parts(tmp_path, monkeypatch):
    """In the first search, in the training between, in the second search; no part is
    done twice, and what judges the phases none of them learns from."""
    path, said, kept, began, drawn = tmp_path / "w", [], [], [], {}
    train, save, on_data = Bench.train, Checkpoints.save, runs.on_data
    handed_over = handover.handed_over

    def killing(self, values, stops, **how):
        for found in train(self, values, stops, **how):
            if how.get("said", "").startswith(kills.get(self.name, "never")):
                raise Killed
            yield found
        drawn.setdefault(self.name, {}).update(self._draws)

    def stopped(self, *what):
        save(self, *what)
        if kills.pop("training", None):
            os.kill(os.getpid(), signal.SIGTERM)

    def seen(wanted, data, *where):
        kept.append(data)
        return on_data(wanted, data, *where)

    def handed(start_from, *what):
        began.append(start_from)
        return handed_over(start_from, *what)

    monkeypatch.setattr(logs, "say", said.append)
    monkeypatch.setattr(learning_rate, "STEPS", 12)
    monkeypatch.setattr(learning_rate, "FEWEST", 4)
    monkeypatch.setattr("ssl_jax.tuning.batch_size._SECONDS", 0.01)
    monkeypatch.setattr(loop, "show", lambda *_: None)
    monkeypatch.setattr(tune, "make_mesh", lambda: make_mesh(jax.devices()[:1]))
    monkeypatch.setattr(Bench, "train", killing)
    monkeypatch.setattr(Checkpoints, "save", stopped)
    monkeypatch.setattr(runs, "on_data", seen)
    monkeypatch.setattr(handover, "handed_over", handed)

    kills = {"train": "trial 1"}
    with pytest.raises(Killed):
        tune.tune(config(), path)
    kills = {"training": True}
    assert tune.tune(config(**{"train.checkpoint_every": 2}), path) is None
    kills = {"second": "trial 1"}
    with pytest.raises(Killed):
        tune.tune(config(), path)
    kills = {}
    found = tune.tune(config(), path)

    for begins, times in {
        "train of tiny_debug": 2,
        "second of tiny_debug": 2,
        "batch size": 2,  # once for each phase, as what follows
        "range test": 2,
        "trial 0: the config's own settings": 2,
        "the search for train is over": 2,
        "train is trained with these": 2,
    }.items():
        assert sum(line.startswith(f"tune: {begins}") for line in said) == times, begins

    held = {*drawn["second"][0].split.validation.tolist()}
    assert drawn["train"].keys() == {0, 1, 2} and drawn["second"].keys() == {0}
    assert held == {*drawn["train"][0].split.validation.tolist()} and len(held) == 10
    for data in kept:
        its: Split = data.split
        assert not held & {*its.labeled, *its.unlabeled, *its.validation}
        assert len(its.labeled) == 10 and len(its.validation) == 10
        assert "test" not in data.eval_sets and not len(data.dataset.test_labels_M)
    trained = policy.trained(path, "train")
    assert set(began) == {"scratch", str(trained)}
    assert Workdir(trained).result["resumed"] == 1
    assert Workdir(trained).phase("train").done["stopped"] == "loss_patience"
    # Its finals are on the same images, in another order.
    one, other = (
        row for row in Study(path, 0, "second").known("finals") if row[0] == "own"
    )
    assert one[1] != other[1] and one[3] != other[3]

    assert policy.read(path / policy.FILE) == found
    assert found.settings.keys() == found.found.keys()
    of = {field.partition(".")[0] for field in found.settings}
    assert of == {"train", "second", "model"}
    for name, figures in found.validation.items():
        before, after = figures["before"], figures["after"]
        assert after["accuracy"] >= before["accuracy"] and after["draws"] == 2
        assert found.budget["phases"][name]["tried"] == 2
    parts = [part["seconds"] for part in found.budget["phases"].values()]
    assert found.budget["beside"]["training train"] > 0
    whole = sum(parts) + sum(found.budget["beside"].values())
    assert found.budget["seconds"] == pytest.approx(whole)
    told = results.summary(found, path)
    assert "train: accuracy on 10 images" in told and "second: accuracy on" in told
    fresh = config()
    policies.lay_over(fresh, path / policy.FILE)
    sections.parse(fresh)
    laid = dict(settings.flat(fresh.to_dict()))
    assert {f: json.loads(laid[f]) for f in found.settings} == found.settings


def test_the_first_phase_chooses_the_network_for_those_that_follow(tmp_path):
    mesh = make_mesh(jax.devices()[:1])
    given, data = config(), tiny.load(config(), mesh)

    def benches(given):
        run = sections.parse(given)
        with jax.set_mesh(mesh):
            return chain.benches(run, chain.of(run), data, mesh)

    first, second = benches(given).values()
    assert first.network and not second.network
    second.follow(tmp_path, {**second.config["model"], "dropout": 0.3})
    assert second.changed({})[0].model.hparams["dropout"] == 0.3
    given.beside = given.second.copy_and_resolve_references()
    given.phases = ("beside", "train", "second")
    given.beside.start_from = "scratch"
    first, second = benches(given).values()  # another one has the network as well
    assert not first.network and not second.network


def test_time_is_shared_out_as_whole_runs_take():
    plan = Plan(1_000.0, (60.0, 120.0, 120.0), measuring=40.0)
    assert plan.share(40.0, 0) == pytest.approx((1_000 - 40 - 180) / 5)
    # The first search and its training took less than they might: the others have it.
    assert plan.share(140.0, 1) == pytest.approx((1_000 - 140 - 120) / 2)
    assert plan.share(600.0, 2) == pytest.approx(400.0)
    assert Plan(90.0, (1.0,)).share(0.0, 0) == 90.0
    spent = plan.measuring
    for over, run in enumerate(plan.runs):
        spent += plan.share(spent, over) + (run if over < 2 else 0)
    assert spent == pytest.approx(plan.total)


def test_too_little_time_for_a_trial_of_each_says_what_would_do():
    needed = {"first": 10.0, "second": 90.0}
    plan = Plan(120.0, (60.0, 180.0), measuring=5.0)
    with pytest.raises(UserError, match="measuring took 5 s.*training first in"):
        chain.check(plan, needed)
    with pytest.raises(UserError, match="tune.minutes=2 is too.*tune.minutes=3.7 or"):
        chain.check(plan, needed)
    enough = plan._replace(total=60 * 3.7)
    chain.check(enough, needed)
    for over, need in enumerate(needed.values()):
        spent = 5.0 + over * (60.0 + enough.share(5.0, 0))
        assert enough.share(spent, over) > need


def test_what_was_measured_holds_for_later_launches(tmp_path, monkeypatch):
    measured = []

    def pace(bench, section):
        measured.append(section.name)
        return Pace(steps_per_second=10.0, compile_seconds=4.0)

    def planned(minutes):
        wanted = sections.parse(config(**{"tune.minutes": minutes}))
        benches = dict.fromkeys(("train", "second"))
        return chain.planned(wanted, chain.of(wanted), benches, Workdir(tmp_path))

    monkeypatch.setattr(paces, "measured", pace)
    with pytest.raises(UserError, match="use tune.minutes=0.8 or more"):
        planned(0.2)
    assert not any(tmp_path.iterdir())
    plan, paces_of = planned(0.8)
    assert plan.runs == pytest.approx((6.16, 6.16))  # 4 and 1.2 times 18 steps' time
    assert paces_of.keys() == {"train", "second"} and len(measured) == 4
    again, none = planned(5.0)
    assert again == plan._replace(total=300.0) and not none and len(measured) == 4


def test_what_follows_what_cannot_be_tuned_is_refused():
    def names(given):
        return [section.name for section in chain.of(sections.parse(given))]

    assert names(config()) == ["train", "second"]
    assert names(config(**{"second.start_from": "scratch"})) == ["second"]
    with pytest.raises(UserError, match="second starts from train.*byol.BYOL does not"):
        names(config("byol.BYOL"))
    taught = config(**{"second.start_from": "scratch", "second.labels_from": "train"})
    with pytest.raises(UserError, match="has its labels from train"):
        names(taught)


def test_another_method_is_trained_with_its_own_fields():
    given = config("fixmatch.FixMatch", **{"train.unlabeled_ratio": 1}).to_dict()
    uda = base.algorithm("uda.UDA").to_dict()
    found = {f"train.algorithm.{field}": value for field, value in uda.items()}
    found["train.steps"] = 9
    laid = chain._laid(found, given, "train")
    assert laid == {"train.algorithm": uda, "train.steps": 9}
    parsed = sections.parse(sections.changed(given, laid)).trained["train"]
    assert parsed.algorithm == "uda.UDA" and parsed.steps == 9
    same = {"train.algorithm.name": "fixmatch.FixMatch", "train.steps": 9}
    assert chain._laid(same, given, "train") == same


def test_what_an_earlier_launch_found_is_as_it_was():
    noted = {
        "settings": {"train.augment.mean": [1.0]},
        "found": {},
        "validation": {"before": {}},
        "budget": {"seconds": 3.0, "programs": 2, "compiling": 9.0},
    }
    found = Found.of(noted)
    assert found.settings == {"train.augment.mean": (1.0,)}
    assert found.budget == {"seconds": 3.0, "programs": 0, "compiling": 0.0}
