"""A phase that trains in parts: `config.accumulate`."""

import dataclasses

import jax
import numpy as np
import pytest

import tiny
from configs import base
from ssl_jax import algorithms, core
from ssl_jax.data import feeds
from ssl_jax.errors import UserError
from ssl_jax.models.shared.in_parts import InParts
from ssl_jax.train import run, sections

STEPS = 3


def _config(accumulate, algorithm="fixmatch.FixMatch", model="convnet"):
    config = tiny.config(algorithm)
    config.model = base.model(model, filters=(4,))
    config.accumulate = accumulate
    config.train.batch_size = 8
    if "strong" in config.train.augment:
        config.train.augment.update(weak="none", strong="none")  # compiles sooner
    if "threshold" in config.train.algorithm:
        config.train.algorithm.threshold = 0.12  # pseudo-labels count at once
    return config


def _numbers(sums):
    return [{name: metric.compute() for name, metric in s.items()} for s in sums]


def _close(one, other, tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, np.floating):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_without_batch_norm_it_trains_what_it_would_at_once():
    """Also what goes by the whole batch's statistics, as FreeMatch's thresholds do."""
    whole, parts = (
        tiny.train(tiny.build(_config(n, "freematch.FreeMatch", "lenet")), STEPS)
        for n in (1, 4)
    )
    _close(whole[1:], parts[1:], 1e-6)
    assert jax.tree.structure(whole[1][0]) == jax.tree.structure(parts[1][0])


def test_any_number_of_devices_trains_the_same():
    """With BatchNorm, which sees the same images in a part."""
    one, two = (
        tiny.train(tiny.build(_config(2), devices), STEPS)[1:] for devices in (1, 4)
    )
    _close(one, two, 1e-5)
    moments = one[0][-1].model_state["batch_stats"]["encoder"]["BatchNorm_0"]
    assert moments["count"] == 2 * STEPS


def test_only_the_training_step_is_in_parts():
    phase = tiny.build(_config(2, "byol.BYOL", "lenet"))
    assert isinstance(phase.in_parts.network.encoder, InParts)
    same = dataclasses.replace(phase.in_parts, model=phase.algorithm.model)
    assert same == phase.algorithm  # which evaluates, and finds its variables
    whole = tiny.build(_config(1, "byol.BYOL", "lenet"))
    assert whole.in_parts is whole.algorithm


@pytest.mark.parametrize(
    ("algorithm", "batch", "devices", "said"),
    [
        (
            *("fixmatch.FixMatch", 6, 1),
            "train.batch_size=6 does not divide into accumulate=4 parts; use a "
            "multiple of 4.",
        ),
        (
            *("fixmatch.FixMatch", 8, 4),
            "train.batch_size=8 does not divide over 4 devices into accumulate=4 "
            "parts; use a multiple of 16.",
        ),
        (
            *("label_spreading.LabelSpreading", 0, 1),
            "accumulate=4: a step of label_spreading.LabelSpreading sees all rows at "
            "once; use 1.",
        ),
    ],
)
def test_what_does_not_go_in_parts_is_refused(algorithm, batch, devices, said):
    config = tiny.config(algorithm)
    config.accumulate, config.train.batch_size = 4, batch
    with pytest.raises(UserError) as error:
        sections.parse(config, devices)
    assert str(error.value) == said


def test_the_log_says_what_is_otherwise(capfd):
    config = _config(2)
    wanted = sections.parse(config)
    data = tiny.load(config, core.make_mesh(jax.devices()[:1]))
    run.say_found(wanted, data)
    said = "in 2 parts (accumulate): the gradient is of all, BatchNorm sees a part"
    assert said in capfd.readouterr().err


def test_another_seed_draws_other_labels_batches_and_keys():
    config, mesh = tiny.config(), core.make_mesh(jax.devices()[:1])
    drawn = []
    for seed in (0, 1):
        config.seed = seed
        data = tiny.load(config, mesh)
        phase = tiny.phase(config, "train", data, mesh)
        entries = jax.tree.leaves(jax.device_get(next(phase.feed.items(0, 1))))
        drawn.append([data.split.labeled, jax.random.key_data(phase.key), *entries])
    same = [np.array_equal(*pair) for pair in zip(*drawn, strict=True)]
    assert not any(same[:2]) and len(same) > 4
    assert sum(same[2:]) <= 1  # which truths are hidden may be the same


@pytest.mark.parametrize(
    ("algorithm", "field", "counts"),
    [
        ("darp.DARP", "labeled_K", [5, *[2] * 8, 3]),
        ("crest.CReST", "granted_K", [2] * 10),  # which no network gave
    ],
)
def test_classes_are_counted_with_and_without_pseudo_labels(algorithm, field, counts):
    config, mesh = tiny.config(algorithm), core.make_mesh(jax.devices()[:1])
    data = tiny.load(config, mesh)
    said = feeds.Labels(
        index_N=data.split.unlabeled[:4],
        label_N=np.array([0, 0, 0, 9], np.int32),
        probs_NK=np.eye(10, dtype=np.float32)[[0, 0, 0, 9]],
    )
    granted = feeds.granted(data.dataset, data.split)
    labels = feeds.Labels(*map(np.concatenate, zip(granted, said, strict=True)))
    phase = tiny.phase(config, "train", data, mesh, labels)
    assert list(getattr(phase.algorithm, field)) == counts
    if algorithm == "darp.DARP":
        sizes = phase.algorithm.num_unlabeled, phase.algorithm.total_steps
        assert sizes == (len(data.split.unlabeled), config.train.steps)


@pytest.mark.parametrize("name", ["fixmatch", "supervised", "label_spreading"])
def test_what_learns_classes_is_refused_where_there_are_none(name):
    config, mesh = (
        tiny.config(algorithms.method(name)),
        core.make_mesh(jax.devices()[:1]),
    )
    data = tiny.load(config, mesh)
    data = data._replace(dataset=data.dataset._replace(class_names=()))
    with pytest.raises(UserError, match="learns classes, and no image of .* a label"):
        tiny.phase(config, "train", data, mesh)
