"""What is measured before the search, batch size and learning rate, and what the search
makes of it."""

from types import SimpleNamespace

import numpy as np
import pytest

import tiny
from ssl_jax.train import sections
from ssl_jax.tuning import batch_size, learning_rate
from ssl_jax.tuning.batch_size import Measured
from ssl_jax.tuning.search import Stages
from ssl_jax.tuning.space import Choice, Number


def chosen(own, speeds, most=512, refused=()):
    """(the size, those that were measured), of images/s by batch size."""
    measured = []

    def measure(size):
        if size in refused:
            return "no room"
        measured.append(size)
        return Measured(speeds[size], 1.0)

    sizes = batch_size.sizes(own, most, 1)
    return batch_size.chosen(own, *sizes, measure), measured


SPEEDS = {8: 100, 16: 190, 32: 300, 64: 400, 128: 420, 256: 900}


@pytest.mark.parametrize("own, tried", [(32, [32, 64, 128]), (64, [64, 128, 32])])
def test_the_largest_that_still_raises_images_per_second(own, tried):
    (size, seen, _), measured = chosen(own, SPEEDS)
    assert size == 64 and measured == tried
    assert seen == {n: SPEEDS[n] for n in tried}


def test_a_smaller_one_that_is_as_fast():
    speeds = {8: 50, 16: 99, 32: 100, 64: 101, 128: 102}
    (size, _, why), measured = chosen(64, speeds)
    assert size == 16 and measured == [64, 128, 32, 16, 8]
    assert "10%" in why


def test_what_has_no_room_or_no_time_is_left_out_and_said():
    assert chosen(32, SPEEDS, refused=(64,))[0] == (32, {32: 300}, "no room")
    assert chosen(32, SPEEDS, refused=(32,))[0] == (32, {}, "no room")
    assert chosen(32, SPEEDS, most=64)[0][0] == 64


def test_sizes_divide_over_the_devices():
    assert batch_size.sizes(48, 200, 4) == ([96, 192], [24, 12])
    assert batch_size.sizes(8, 15, 1) == ([], [])


def test_a_range_test_finds_where_the_loss_is_lowest():
    rates = learning_rate.rising(200)
    assert rates[0] == pytest.approx(1e-5) and rates[-1] == pytest.approx(10.0)
    noise = 0.05 * np.random.default_rng(0).normal(size=200)
    losses = 2.3 - 2.0 / (1 + (0.3 / rates)) + np.maximum(rates - 0.5, 0) ** 2 + noise
    watch = learning_rate.watched(losses, rates)
    assert 0.3 < watch.lowest < 1.5
    assert len(watch.losses) < 200  # it ended as the loss rose


def test_a_range_test_ends_at_a_loss_that_is_not_finite():
    rates = learning_rate.rising(20)
    watch = learning_rate.watched([2.0, 1.0, float("nan"), 0.1], rates)
    assert watch.losses == pytest.approx([2.0, 1.9 / 1.9 * 1.4736842])
    assert watch.lowest == rates[1]
    assert learning_rate.watched([float("inf")], rates).lowest == 0


def test_a_loss_that_falls_by_no_more_than_batches_differ_says_nothing_of_the_rate():
    """As of a regularised MobileNet: 0.1 below the first of losses that differ by 0.2,
    before it rises (`lowest` was a rate of 0.0004, where the best was 0.003)."""
    rates = learning_rate.rising(200)
    noise = np.random.default_rng(0).normal(0.0, 0.2, 200)
    rise = np.maximum(np.arange(200) - 100, 0) / 20
    flat = 2.65 - 0.1 * (np.arange(200) > 30) + rise
    assert learning_rate.watched(flat + noise, rates).lowest == 0
    falls = 2.65 - np.clip((np.arange(200) - 50) / 50, 0, 1) + rise
    found = learning_rate.watched(falls + noise, rates).lowest
    assert rates[90] < found < rates[130]


def test_calls_of_several_steps_have_the_rate_of_their_first():
    rates = learning_rate.rising(20)
    assert learning_rate.watched([3.0, 3.0, 1.0], rates, per_call=4).lowest == rates[8]


def test_a_faster_batch_size_is_tried_beside_the_configs_own():
    config = tiny.config("fixmatch.FixMatch").to_dict()
    config = sections.changed(config, {"train.batch_size": 8, "train.steps": 90})
    section = sections.parse(config).trained["train"]
    own = config["train"]["optimizer"]["learning_rate"]

    def stages(size, lowest=1e3):
        known = dict(how_batch_size="", compiles=False, images=360, whole=False)
        known |= {"section": section, "config": config}
        return Stages(batch_size=size, rates={"sgd": lowest}, **known)

    bench = SimpleNamespace(network=True)
    space = stages(16).space(bench)
    assert space["batch_size"] == Choice((8, 16))
    assert space["learning_rate.sgd"].low <= own  # far below the range test's
    few, many = (stages(16).values({"batch_size": size}) for size in (8, 16))
    assert (few["batch_size"], few["steps"]) == (8, 45)
    assert many["batch_size"] == 16 and abs(16 * many["steps"] - 360) <= 16 * 9 / 2
    assert "batch_size" not in stages(8).space(bench)
    assert stages(8).values({})["batch_size"] == 8
    usual = stages(16).usual(space)
    assert (usual["batch_size"], usual["learning_rate.sgd"]) == (16, 1e3 / 10)
    assert stages(8).usual(stages(8).space(bench))["learning_rate.sgd"] == 1e3 / 10
    # A range test that said nothing, and no other batch size: that was tried first.
    known = stages(8, lowest=10 * own)
    assert known.usual(known.space(bench)) == {}


def test_each_choice_is_tried_beside_the_configs_own_settings():
    config = tiny.config("fixmatch.FixMatch").to_dict()
    section = sections.parse(config).trained["train"]
    known = dict(how_batch_size="", compiles=True, images=360, whole=False)
    known |= {"batch_size": section.batch_size, "section": section, "config": config}
    stages = Stages(rates={"sgd": 0.3, "adam": 0.02}, **known)
    where = {
        "optimizer.name": Choice(("sgd", "adam")),
        "unlabeled_ratio": Choice((2, 1, 4)),
        "learning_rate.sgd": Number(0.01, 0.1, log=True),
        "learning_rate.adam": Number(0.001, 0.01, log=True),
        "optimizer.weight_decay": Number(1e-5, 1e-3, log=True),
    }
    adam, less, more = stages.others(where)
    optimizer = config["train"]["optimizer"]
    assert (adam["optimizer.name"], adam["learning_rate.adam"]) == ("adam", 0.002)
    assert adam["unlabeled_ratio"] == config["train"]["unlabeled_ratio"]
    assert (less["unlabeled_ratio"], more["unlabeled_ratio"]) == (1, 4)
    assert less["optimizer.name"] == more["optimizer.name"] == "sgd"
    for each in (adam, less, more):
        assert each["optimizer.weight_decay"] == optimizer["weight_decay"]
