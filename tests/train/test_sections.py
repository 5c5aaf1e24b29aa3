"""The config, parsed once: what comes of it, and all its mistakes in one message."""

import dataclasses

import pytest

import tiny
from configs import base, byol_digits, digits, pseudo_label_mnist
from ssl_jax.active import strategies
from ssl_jax.algorithms.fixmatch import FixMatch
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.train import rules, sections
from ssl_jax.train.sections import Probes, Trains


def test_sections_are_typed_and_frozen():
    run = sections.parse(byol_digits.get_config("debug"))
    supervised, pretrain, probe = run.sections
    assert isinstance(pretrain, Trains) and isinstance(probe, Probes)
    assert probe.start_from == "pretrain" and probe.protocol.epochs == 2
    assert list(run.trained) == ["supervised", "pretrain"]
    assert pretrain.method.__name__ == "BYOL" and pretrain.hparams["hidden"] == 16
    assert pretrain.tx is not None and pretrain.views.first is not None
    assert supervised.rate(0) == pytest.approx(0.1)
    assert isinstance(run.data, Wanted) and run.data.name == "digits"
    for part in (run, run.data, pretrain, probe, probe.protocol):
        field = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, None)


def test_a_dict_is_parsed_as_the_config_that_it_came_from():
    config = tiny.config()
    run = sections.parse(config.to_dict())
    assert run.trained["train"].method is FixMatch
    assert run.config == config.to_dict()


def test_a_schema_and_its_sections_have_the_same_fields():
    """Every field of configs/base.py is read, and none is invented."""
    config = base.run("whole").to_dict()
    own = {"name", "algorithm", "method", "hparams", "rate", "tx", "views"}
    fields = {field.name for field in dataclasses.fields(Trains)} - own
    assert fields | {"algorithm", "optimizer"} == set(config["train"])
    parts = (("data", Wanted), ("query", sections.Query), ("predict", sections.Predict))
    for name, cls in parts:
        assert {field.name for field in dataclasses.fields(cls)} == set(config[name])


def test_all_mistakes_are_in_one_message():
    config = digits.get_config("debug")
    config.seed = -1
    config.data.placement = "moon"
    config.data.num_labels = -20
    config.model.dtype = "float33"
    config.train.update(knn=-1, labels_from="teacher", batch_size=0)
    config.train.optimizer.name = "sdg"
    config.train.augment.strong = "loud"
    config.query.strategy = "luck"
    with pytest.raises(UserError) as error:
        sections.parse(config)
    first, *lines = str(error.value).splitlines()
    assert first == "10 mistakes in the configuration:"
    for said in (
        *("seed=-1", "placement='moon'", "num_labels=-20", "dtype='float33'"),
        *("knn=-1", "labels_from='teacher'", "batch_size=0", "optimizer.name='sdg'"),
        *("augment.strong='loud'", "query.strategy='luck'"),
    ):
        assert sum(said in line for line in lines) == 1, (said, lines)


def test_one_mistake_is_told_once_and_alone():
    """Though two phases share the network, and the schedule hangs on the steps."""
    config = byol_digits.get_config("debug")
    config.model.name = "nope"
    with pytest.raises(UserError, match="^'?.*nope.*convnet.*$") as error:
        sections.parse(config)
    assert len(str(error.value).splitlines()) == 1
    config = digits.get_config("debug")
    config.train.steps = 0
    with pytest.raises(UserError, match=r"^train\.steps=0 must be at least 1\.$"):
        sections.parse(config)


def test_a_mistake_in_a_teacher_is_not_told_of_its_student_as_well():
    config = pseudo_label_mnist.get_config("debug")
    config.teacher.knn = -1
    with pytest.raises(UserError, match=r"^teacher\.knn=-1 must be at least 0\.$"):
        sections.parse(config)


def test_one_image_alone_is_not_mixed():
    config = tiny.config("supervised.Supervised", cutmix_alpha=1.0)
    config.train.update(batch_size=1, unlabeled_ratio=0)
    said = (
        r"^train\.batch_size=1 has no other image .*least 2, or train\.algorithm\.cut"
    )
    with pytest.raises(UserError, match=said):
        sections.parse(config)


def test_a_run_that_is_asked_need_not_have_what_it_started_from():
    config = tiny.config("supervised.Supervised")
    config.train.start_from = "/gone/pretrain"
    with pytest.raises(UserError, match="'/gone/pretrain' is neither"):
        sections.parse(config)
    sections.parse(config, to_train=False)


def test_what_asks_for_features_of_a_method_without_any_is_told_at_once(monkeypatch):
    monkeypatch.delattr(ema_teacher, "features")
    monkeypatch.delattr(FixMatch, "features")
    config = tiny.config()
    config.train.knn = 5
    config.phases = ("train", "probe")
    config.probe = base.probe("train")
    with pytest.raises(UserError) as error:
        sections.parse(config)
    first, knn, probe = str(error.value).splitlines()
    assert "knn=5: fixmatch.FixMatch learns no features" in knn
    assert "probe: fixmatch.FixMatch learns no features to probe" in probe


def test_unlabeled_images_that_a_method_needs_are_asked_for_at_once():
    config = tiny.config("mean_teacher.MeanTeacher")
    config.train.unlabeled_ratio = 0
    with pytest.raises(
        UserError, match="learns from unlabeled images too: .*at least 1"
    ):
        sections.parse(config)


def test_a_method_that_hides_patches_needs_a_network_that_knows_of_them():
    config = tiny.config("mae.MAE")
    config.model, config.accumulate = base.model("mlp"), 2
    with pytest.raises(UserError) as error:
        sections.parse(config)
    assert "model.name='mlp': mae.MAE hides patches, which" in str(error.value)
    assert "accumulate=2: mae.MAE hides patches of all images" in str(error.value)


def test_many_seeds_are_of_one_phase_from_scratch():
    config = byol_digits.get_config("debug")
    config.num_seeds = 2
    with pytest.raises(UserError, match="num_seeds=2 trains one phase, and phases="):
        sections.parse(config)


def test_hyper_parameters_are_checked_without_data():
    config = tiny.config("autoencoder.Autoencoder")
    config.train.algorithm.update(noise=1.5)
    with pytest.raises(
        UserError, match=r"^train\.algorithm\.noise=1\.5 must be in \[0, 1\)\.$"
    ):
        sections.parse(config)


def test_fields_of_another_version_are_named():
    tree = tiny.config().to_dict()
    del tree["data"]["fold"], tree["train"]["patience"]
    tree["query"]["budget"] = 3
    with pytest.raises(UserError) as error:
        sections.parse(tree)
    for said in ("data differs in fold", "train differs in patience", "query differs"):
        assert said in str(error.value)


def test_a_changed_configuration_leaves_the_other_alone():
    tree = tiny.config().to_dict()
    other = sections.changed(tree, {"query.rounds": 3, "seed": 7})
    assert (other["query"]["rounds"], other["seed"]) == (3, 7)
    assert (tree["query"]["rounds"], tree["seed"]) == (0, 0)
    assert other["query"]["size"] == tree["query"]["size"]


def test_every_strategy_that_a_config_may_name_exists():
    there = {*strategies.UNCERTAINTY, *strategies.COVERING, "random"}
    assert set(rules.STRATEGIES) == there
