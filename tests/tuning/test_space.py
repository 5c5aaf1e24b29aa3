"""What a search may choose, and what goes with a choice."""

import pytest

import tiny
from ssl_jax.train import sections
from ssl_jax.tuning import space
from ssl_jax.tuning.space import Choice, Number


def prepared(algorithm, **changes):
    config = tiny.config(algorithm).to_dict()
    changes = {f"train.{field}": value for field, value in changes.items()}
    config = sections.changed(config, changes)
    return sections.parse(config).trained["train"], config


FIXMATCH = prepared("fixmatch.FixMatch", **{"unlabeled_ratio": 2})


def test_a_method_has_what_it_has():
    numbers = space.numbers(*FIXMATCH)
    assert {"algorithm.threshold", "algorithm.unlabeled_weight"} < numbers.keys()
    assert numbers["augment.strength"] == Number(0.1, 1.0)
    supervised = prepared("supervised.Supervised", unlabeled_ratio=0)
    assert space.numbers(*supervised).keys() == {
        "optimizer.weight_decay",
        "optimizer.momentum",
        "algorithm.label_smoothing",
        "model.dropout",
    }
    by_program = space.programs(*supervised, methods=("fixmatch",), most_unlabeled=7)
    assert "algorithm.name" not in by_program and "augment.strong" not in by_program
    assert by_program["optimizer.name"] == Choice(("sgd", "adam"))
    assert by_program["algorithm.mixup_alpha"] == Choice((0.0, 0.2))
    assert by_program["algorithm.cutmix_alpha"] == Choice((0.0, 1.0))
    alone = prepared("supervised.Supervised", unlabeled_ratio=0, batch_size=2)
    by_program = space.programs(*alone, methods=(), most_unlabeled=7)
    assert not {"algorithm.mixup_alpha", "algorithm.cutmix_alpha"} & by_program.keys()


def test_what_needs_a_program_has_the_configs_own_first():
    methods = ("fixmatch", "softmatch", "supervised")  # the last is no FixMatch
    found = space.programs(*FIXMATCH, methods=methods, most_unlabeled=4)
    assert found["algorithm.name"].values == (
        "fixmatch.FixMatch",
        "softmatch.SoftMatch",
    )
    assert found["unlabeled_ratio"].values == (2, 1, 4)
    assert found["augment.strong"].values[0] == "randaugment_google"
    lars = prepared("fixmatch.FixMatch", **{"optimizer.name": "lars"})
    found = space.programs(*lars, methods=(), most_unlabeled=2)
    assert not {"optimizer.name", "algorithm.name"} & found.keys()


def test_an_unlabeled_weight_lies_around_the_configs_own():
    field = "algorithm.unlabeled_weight"
    own = [prepared("fixmatch.FixMatch", **{field: weight}) for weight in (1.0, 10.0)]
    found = [space.numbers(*each)[field] for each in own]
    assert found == [Number(0.25, 4.0, log=True), Number(2.5, 40.0, log=True)]
    nothing = prepared("fixmatch.FixMatch", **{field: 0.0})
    assert field not in space.numbers(*nothing)


def test_learning_rates_lie_around_a_tenth_of_the_lowest_loss_and_the_configs_own():
    assert space.rates(1.0, own=0.1) == Number(0.02, 0.5, log=True)
    assert space.rates(1.0, own=0.003) == Number(0.001, 0.5, log=True)
    assert space.rates(1.0, own=0.3) == Number(0.02, pytest.approx(0.9), log=True)


def test_the_rate_is_that_of_the_optimizer_chosen():
    chosen = {
        "optimizer.name": "adam",
        "learning_rate.sgd": 0.1,
        "learning_rate.adam": 0.001,
        "algorithm.threshold": 0.8,
    }
    assert space.values(chosen, *FIXMATCH) == {
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.001,
        "optimizer.per_batch": 0,
        "algorithm.threshold": 0.8,
    }


def test_dropout_is_the_networks_whose_head_has_it():
    found = space.of_run({"steps": 9, "model.dropout": 0.1}, "train")
    assert found == {"train.steps": 9, "model.dropout": 0.1}
    assert space.of_network(found) == {"model.dropout": 0.1}
    assert list(space.of_network(space.numbers(*FIXMATCH))) == ["model.dropout"]


def test_strength_is_of_a_view_that_has_one():
    chosen = {"augment.strong": "randaugment_torchssl", "augment.strength": 0.5}
    assert space.values(chosen, *FIXMATCH) == chosen
    chosen["augment.strong"] = "none"
    assert space.values(chosen, *FIXMATCH) == {"augment.strong": "none"}
    given = {"augment.strength": 0.5}
    assert space.values(given, *FIXMATCH) == given
    plain = prepared("fixmatch.FixMatch", **{"augment.strong": "none"})
    assert space.values(given, *plain) == {}


def test_another_method_keeps_what_both_have():
    own = prepared(
        "fixmatch.FixMatch", **{"algorithm.ema_decay": 0.9, "algorithm.threshold": 0.7}
    )
    chosen = {"algorithm.name": "uda.UDA", "algorithm.unlabeled_weight": 2.0}
    algorithm = space.values(chosen, *own)["algorithm"]
    assert algorithm["name"] == "uda.UDA" and algorithm["ema_decay"] == 0.9
    assert algorithm["threshold"] == 0.8  # UDA's own
    assert algorithm["unlabeled_weight"] == 2.0
    chosen["algorithm.name"] = "softmatch.SoftMatch"
    chosen["algorithm.threshold"] = 0.9  # which that has not
    assert "threshold" not in space.values(chosen, *own)["algorithm"]


@pytest.mark.parametrize("steps, rampup, warmup", [(40, 20, 10), (20, 10, 5)])
def test_what_counts_steps_goes_with_them(steps, rampup, warmup):
    own = prepared(
        "mixmatch.MixMatch",
        **{
            "steps": 40,
            "unlabeled_ratio": 1,
            "algorithm.rampup_steps": 20,
            "optimizer.warmup_steps": 10,
        },
    )
    given = space.lengthened({}, steps, *own)
    assert given.get("algorithm.rampup_steps", 20) == rampup
    assert given.get("optimizer.warmup_steps", 10) == warmup
    assert given["steps"] == steps
