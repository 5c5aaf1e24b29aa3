"""Methods that are several phases, each labeled by the one before it, on every data
set."""

import importlib

import pytest

PAPERS = ["cifar10", "cifar100", "imagenet", "stl10", "svhn"]
DATA_SETS = [*PAPERS, "digits", "folder", "mnist"]


def _get(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.mark.parametrize("data", DATA_SETS)
def test_noisy_student_is_three_phases_of_fixmatchs_network_and_optimizer(data):
    config, other = _get(data, "noisy_student"), _get(data)
    assert config.phases == ("teacher", "student1", "student2")
    assert "train" not in config and config.model == other.model
    teachers = ["", "teacher", "student1"]
    for name, teacher in zip(config.phases, teachers, strict=True):
        phase = config[name]
        assert phase.labels_from == teacher and phase.unlabeled_ratio == 0
        assert phase.confidence == (0.5 if teacher else 0)
        assert bool(phase.per_class) == bool(teacher and data != "folder")
        for field in ("optimizer", "augment"):
            assert phase[field] == other.train[field], field
    if data in PAPERS:  # three phases have 3/8 of its steps, each of as many images
        assert 8 * phase.steps == other.train.steps
    if data != "digits":
        drawn = other.train.batch_size * (1 + other.train.unlabeled_ratio)
        assert phase.batch_size == drawn


@pytest.mark.parametrize("data", DATA_SETS)
def test_crest_is_three_phases_of_fixmatchs_each_of_which_teaches_the_next(data):
    config, other = _get(data, "crest"), _get(data)
    assert config.phases == ("generation1", "generation2", "generation3")
    assert "train" not in config and config.model == other.model
    phases = [config[name] for name in config.phases]
    teachers = ["", *config.phases[:-1]]
    assert [phase.labels_from for phase in phases] == teachers
    assert [phase.algorithm.alignment for phase in phases] == [1.0, 0.75, 0.5]
    assert [phase.rarer_first for phase in phases] == [0.0, 1 / 3, 1 / 3]
    for phase in phases:
        assert phase.start_from == "scratch"
        for field in ("optimizer", "augment", "steps", "batch_size", "unlabeled_ratio"):
            assert phase[field] == other.train[field], field
