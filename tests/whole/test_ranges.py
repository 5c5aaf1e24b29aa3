"""Every number of a configuration has its range where it is declared, and what is not
in it is refused before any data is read."""

import dataclasses
import importlib

import pytest

import readme_example
import tiny
from configs import base
from ssl_jax import algorithms, augment, models
from ssl_jax.core import named, ranges
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import Protocol
from ssl_jax.train import parts, sections
from ssl_jax.train.optimizers import Optimizer

readme_example.install()  # a new method is asked as well


def _declared():
    """(name, what declares fields, those that a configuration has)."""
    for word in algorithms.names():
        module = importlib.import_module(f"ssl_jax.algorithms.{word}")
        for name, cls in named.classes(module, having="train_step").items():
            yield f"{word}.{name}", cls, named.defaults(cls)
    for name in named.modules("ssl_jax.models"):
        yield name, models.find(name), named.defaults(models.find(name))
    yield "Classifier", models.Classifier, named.defaults(models.Classifier)
    for kind in augment.names():
        yield kind, augment.find(kind).build, augment.hparams(kind)
    of_a_run = named.classes(parts, having="__dataclass_fields__")
    for cls in (*of_a_run.values(), Wanted, Protocol, Optimizer):
        yield cls.__name__, cls, [field.name for field in dataclasses.fields(cls)]


DECLARED = {name: (declared, fields) for name, declared, fields in _declared()}


def test_all_that_declares_fields_is_found():
    assert {"fixmatch.FixMatch", "entropy.Entropy", "two_crops", "gcn"} <= set(DECLARED)
    assert len(DECLARED) >= 40


@pytest.mark.parametrize("name", DECLARED)
def test_every_number_has_a_range_and_its_default_is_in_it(name):
    declared, fields = DECLARED[name]
    assert ranges.undeclared(declared, fields) == []
    if isinstance(fields, dict):
        assert list(ranges.mistakes(declared, fields)) == []


def _refused(change, algorithm="fixmatch.FixMatch"):
    """What `parse`, which sees no data, says of a change of the smallest run."""
    config = tiny.config(algorithm)
    config.data.update(name="folder", dir="/nonexistent")
    with pytest.raises(UserError) as error:
        sections.parse(sections.changed(config.to_dict(), change))
    return str(error.value)


@pytest.mark.parametrize(
    "algorithm, field, value, said",
    [
        ("fixmatch.FixMatch", "algorithm.threshold", 95.0, "in [0, 1]"),
        ("fixmatch.FixMatch", "algorithm.ema_decay", 1.5, "in [0, 1)"),
        ("fixmatch.FixMatch", "algorithm.unlabeled_weight", -1.0, "at least 0"),
        ("fixmatch.FixMatch", "optimizer.momentum", 2.0, "in [0, 1)"),
        ("fixmatch.FixMatch", "optimizer.learning_rate", -0.1, "above 0"),
        (
            "fixmatch.FixMatch",
            "optimizer.learning_rate",
            float("nan"),
            "a finite number above 0",
        ),
        ("fixmatch.FixMatch", "optimizer.warmup_steps", -1, "at least 0"),
        ("fixmatch.FixMatch", "augment.strength", 1.5, "in [0, 1]"),
        ("fixmatch.FixMatch", "augment.std", (0.0,), None),
        ("mixmatch.MixMatch", "algorithm.alpha", 0.0, "above 0"),
        ("autoencoder.Autoencoder", "algorithm.block", 0, "at least 1"),
        ("byol.BYOL", "augment.blur", (0.1,), None),
        ("label_spreading.LabelSpreading", "algorithm.alpha", 1.0, "in (0, 1)"),
        ("gcn.GCN", "algorithm.weight_decay", -1.0, "at least 0"),
        ("byol.BYOL", "batch_size", 1, "at least 2 for byol.BYOL"),
        ("simsiam.SimSiam", "batch_size", 1, "at least 2 for simsiam.SimSiam"),
        ("mixmatch.MixMatch", "batch_size", 1, "at least 2 for mixmatch.MixMatch"),
        ("supervised.Supervised", "algorithm.mixup_alpha", -0.2, "at least 0"),
        ("fixmatch.FixMatch", "confidence", 1.5, "in [0, 1]"),
    ],
)
def test_a_setting_without_meaning_is_refused(algorithm, field, value, said):
    message = _refused({f"train.{field}": value}, algorithm)
    at = f"train.{field}={value}"
    if said is None:
        assert message.startswith(at) and len(message.splitlines()) == 1
    elif field == "confidence":  # which has a second mistake here: no labels_from
        assert f"{at} must be {said}." in message
    else:
        assert message == f"{at} must be {said}."


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("seed", -1, "in [0, 4,294,967,295]"),
        ("seed", 2**32, "in [0, 4,294,967,295]"),
        ("num_seeds", 0, "at least 1"),
        ("data.num_labels", -4, "at least 0"),
        ("data.fold", 10, "in [-1, 9]"),
        ("data.image_size", -1, "at least 0"),
        ("model.bn_momentum", 1.0, "in [0, 1)"),
        ("model.dropout", 1.0, "in [0, 1)"),
        ("query.size", 0, "at least 1"),
    ],
)
def test_so_are_those_of_the_other_sections(field, value, said):
    assert _refused({field: value}) == f"{field}={value} must be {said}."


def test_and_those_of_a_probe():
    config = tiny.config()
    config.phases = ("train", "probe")
    config.probe = base.probe("train", folds=0, l2s=(), learning_rates=(0.1, -0.1))
    with pytest.raises(UserError) as error:
        sections.parse(config)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "probe.learning_rates=(0.1, -0.1): -0.1 must be above 0.",
        "probe.l2s=() must have one value or more.",
        "probe.folds=0 must be at least 1.",
    ]


@pytest.mark.parametrize(
    "algorithm, field, value, said",
    [
        ("fixmatch.FixMatch", "train.optimizer.name", "sdg", " is unknown"),
        ("fixmatch.FixMatch", "train.optimizer.warmup_steps", 9, " must be less than"),
        ("fixmatch.FixMatch", "train.augment.weak", "pan", " is unknown"),
        ("byol.BYOL", "train.augment.area", (0.5, 0.2), " is not a range"),
        ("label_spreading.LabelSpreading", "train.algorithm.kernel", "poly", ": use"),
        ("fixmatch.FixMatch", "train.algorithm.name", "nope.Nope", " is not in"),
        ("fixmatch.FixMatch", "model.name", "nope", " is not in"),
        ("fixmatch.FixMatch", "train.eval_every", 3, None),
    ],
)
def test_a_message_begins_with_the_field_and_its_place(algorithm, field, value, said):
    if said is None:  # of two fields, both by their places
        message = _refused({"train.steps_per_call": 2, field: value}, algorithm)
        said = " is not a multiple of train.steps_per_call=2"
    else:
        message = _refused({field: value}, algorithm)
    assert message.startswith(f"{field}={value!r}{said}"), message


def test_ctaugment_is_for_methods_that_learn_its_rates():
    """Which is told at once, and not when the phase is compiled."""
    for strong in ("ctaugment", "ctaugment_google"):
        change = {"train.augment.strong": strong}
        message = _refused(change, "supervised.Supervised")
        assert message.startswith(f"train.augment.strong={strong!r} has rates that")
        assert "supervised.Supervised does not learn: use 'rand" in message
    config = tiny.config("noisy_student.NoisyStudent")
    config.train.augment.strong = "ctaugment"
    assert sections.parse(config).trained["train"].views.probe is not None
