"""What every algorithm promises (design, sections 2 and 9), found by listing them."""

import dataclasses
import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.key_reuse._core import check_key_reuse_jaxpr

import readme_example
import tiny
import toy
from ssl_jax import algorithms, augment, core
from ssl_jax.core import contract, named
from ssl_jax.core.metrics import Calibration
from ssl_jax.train import program as programs
from ssl_jax.workdir.checkpoints import Checkpoints


def _all_algorithms():
    for word in algorithms.names():
        module = importlib.import_module(f"ssl_jax.algorithms.{word}")
        for name in named.classes(module, having="train_step"):
            yield f"{word}.{name}"


readme_example.install()  # README promises that these tests find it
ALGORITHMS = sorted(_all_algorithms())
STEPS = 10


# A step that is inherited is tried once.
WITH_RATES = [
    f"{name} with ctaugment"
    for name in ALGORITHMS
    if algorithms.find(name).learns_augmentation
    and "train_step" in vars(algorithms.find(name))
]
OFF_BY_DEFAULT = [
    "supervised.Supervised with mixed images and dropout",
    "moco.MoCo with a queue",
]
# What FixMatch shows of CTAugment on several devices holds for who calls it alike.
ON_FOUR_DEVICES = [*ALGORITHMS, *OFF_BY_DEFAULT, "fixmatch.FixMatch with ctaugment"]
# In the same order, for pytest finds by its place which of them has been trained.
ON_ONE = [*ON_FOUR_DEVICES, *(n for n in WITH_RATES if n not in ON_FOUR_DEVICES)]
on_four = pytest.mark.parametrize(
    "trained", ON_FOUR_DEVICES, indirect=True, scope="module"
)


@pytest.fixture(scope="module")
def traced():
    """What `program._trace_step` was asked and gave for the one that is `trained`."""
    return []


@pytest.fixture(scope="module", params=ON_ONE)
def trained(request, traced):
    """(config, phase, program, states, sums) of 10 steps on one device."""
    name, _, added = request.param.partition(" with ")
    config = tiny.config(name)
    if "threshold" in config.train.algorithm:
        config.train.algorithm.threshold = 0.12  # so that pseudo-labels count at once
    cls = algorithms.find(name)
    if "strong" in config.train.augment and name != "fixmatch.FixMatch":
        # RandAugment is what FixMatch has as well, and half of what XLA compiles.
        config.train.augment.strong = "none"
    if cls.draws_from == "pool":
        config.data.num_unlabeled = 199  # a pair of rows is padding on 4 devices
    if config.train.batch_size:
        config.train.batch_size = 16  # over 8, BatchNorm lets rounding grow too quickly
    if cls.views_kind in ("two_crops", "multi_crop"):
        # BatchNorm in the heads amplifies rounding: at 0.03 chaos comes by step 5.
        config.train.batch_size = 32
        config.train.optimizer.learning_rate = 0.003
        if name != "byol.BYOL":  # the others compile sooner
            tiny.make_plain(config)
    if cls.hides_patches:  # nothing in it amplifies rounding, and it is slow to learn
        config.train.optimizer.learning_rate = 0.3
    if "alpha" in config.train.algorithm and "strong" in config.train.augment:
        # Mixed targets have an entropy that no loss falls below; at 0.03 chaos comes by
        # step 9.
        config.train.algorithm.alpha = 0.1
        config.train.optimizer.learning_rate = 0.02
    if added == "mixed images and dropout":
        config.model.dropout = 0.3
        config.train.algorithm.update(mixup_alpha=0.2, cutmix_alpha=1.0)
    elif added == "a queue":
        config.train.algorithm.queue = 64
    elif added:  # at a part of its strength, so that 100 steps learn the views
        config.train.augment.update(strong=added, strength=0.3)
    if "warmup_steps" in config.train.algorithm:
        config.train.algorithm.warmup_steps = 2  # Dash's, without pseudo-labels
    if "memory_after" in config.train.algorithm:
        config.train.algorithm.memory_after = 2  # SimMatch's, without its memory
    if "refine_every" in config.train.algorithm:
        config.train.algorithm.update(warmup=0.0, refine_every=4)  # DARP's, at once
    if "count_every" in config.train.algorithm:
        config.train.algorithm.count_every = 4  # DASO's, of pseudo-labels
    if "center_momentum" in config.train.algorithm:
        # As DINO's centre moves, so do its targets, and at first the loss rises.
        config.train.algorithm.center_momentum = 0.999
    if "balanced_weight" in config.train.algorithm:
        # ABC's other head doubles what pseudo-labels of the first steps weigh.
        config.train.algorithm.balanced_weight = 0.3
    if "mean_decay" in config.train.algorithm:
        # Meta Pseudo Labels' 8 outweighs the labels at a threshold as low as this.
        config.train.algorithm.unlabeled_weight = 0.3
    if "decoder" in config.train.algorithm:
        config.train.optimizer.learning_rate = 1.0  # pixels have small gradients
    config.train.steps = 400  # of the schedule
    phase = tiny.build(config)
    with pytest.MonkeyPatch.context() as patch:
        calls = toy.spied(patch, programs, "_trace_step")
        on_one = tiny.train(phase, STEPS)
    traced[:] = calls
    return config, phase, *on_one


@pytest.fixture(scope="module")
def on_four_devices(trained):
    """(program, states, sums) of the same."""
    return tiny.train(tiny.build(trained[0], num_devices=4), STEPS)


def test_algorithms_are_found():
    assert {"fixmatch.FixMatch", "entropy.Entropy"} <= set(ALGORITHMS)
    assert {algorithms.method(word) for word in algorithms.names()} == set(ALGORITHMS)
    assert [name.partition(" ")[0] for name in WITH_RATES] == [
        "comatch.CoMatch",
        "dash.Dash",
        "fixmatch.FixMatch",
        "noisy_student.NoisyStudent",
        "remixmatch.ReMixMatch",
        "simmatch.SimMatch",
    ]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_class_says_what_it_is(name):
    """And says it itself or inherits it, so that nobody has to guess."""
    cls = algorithms.find(name)
    assert core.Algorithm in cls.__mro__
    assert cls.draws_from in ("labeled", "unlabeled", "pool", "graph")
    assert cls.embeds in ("", "pool", "labeled")
    assert bool(cls.embeds) == hasattr(cls, "begun")
    assert cls.views_kind in ("", *augment.names())
    fields = {field.name for field in dataclasses.fields(cls)}
    assert bool(cls.views_kind) == ("views" in fields)
    assert not cls.gathers or "projection" in fields
    assert cls.small.keys() <= named.defaults(cls).keys()
    public = {key for key in dir(cls) if not key.startswith("_")}
    assert public & {"predict", "features"} and core.can(cls, "features")
    for method in contract.OPTIONAL:
        assert core.can(cls, method) == (method in public)
        assert f"      {method}(" in core.Algorithm.__doc__
    step = _step_of(cls)
    assert cls.learns_augmentation == ("probe(self, state" in step)
    if name != "entropy.Entropy":  # README's, which is told of as it compiles
        assert cls.needs_unlabeled == ('batch["unlabeled_image"]' in step)


def _step_of(cls):
    """The source of its train_step, and of its parent's where that is called."""
    step = inspect.getsource(cls.train_step)
    if "super().train_step(" not in step:
        return step
    at = next(c for c in cls.__mro__ if "train_step" in vars(c))
    return step + _step_of(at.__base__)


def test_train_step_is_a_pure_function_of_its_arguments(trained):
    _, phase, program, states, sums = trained
    item = next(phase.feed.items(3, 4))
    given = jax.tree.map(np.copy, (states[3], sums[3]))
    args = (states[3], sums[3], phase.feed.arrays, item)
    first, again = (jax.device_get(program.call(*args)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, given, (states[3], sums[3]))
    if given[0].params and phase.algorithm.draws_from != "pool":  # which draws nothing
        elsewhere = states[3].replace(step=np.int32(7))  # another key
        other = jax.device_get(program.call(elsewhere, *args[1:]))
        assert not _equal(first[0].params, other[0].params)


def test_no_key_is_drawn_from_twice(trained, traced):
    """As JAX's own checker has it, for which `fold_in` leaves a key as it is: two views
    of an image, or a view and what it is mixed with, are drawn apart."""
    [(_, (step, _))] = traced
    check_key_reuse_jaxpr(step.jaxpr)


def test_labels_that_were_not_granted_move_nothing(trained):
    """A batch has the truth of unlabeled images to judge pseudo-labels by alone."""
    config, phase, program, states, sums = trained
    if phase.algorithm.draws_from in ("pool", "graph"):
        return  # whose batch has no such truth: tests/data/test_feeds.py
    images_NHWC, truth_N = phase.feed.arrays
    granted = tiny.load(config, phase.mesh).split.labeled
    others_N = np.full(len(truth_N), 3, np.int32)
    others_N[granted] = truth_N[granted]
    assert (others_N != truth_N).mean() > 0.8
    arrays = images_NHWC, jax.device_put(others_N, truth_N.sharding)
    item = next(phase.feed.items(3, 4))
    state, _ = jax.device_get(program.call(states[3], sums[3], arrays, item))
    jax.tree.map(np.testing.assert_array_equal, state, states[4])


def test_an_average_is_of_the_network_as_its_step_leaves_it(trained):
    _, phase, _, states, _ = trained
    if "ema" not in states[0].extra:
        return
    for step in (0, 1, 7):
        before, after = states[step : step + 2]
        decay = min(phase.algorithm.ema_decay, (1 + step) / (10 + step))
        if step == 1 and "rho_hat" in before.extra.get("thresholds", ()):
            decay = 1  # Dash measures it, and rests
        average = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new,
            *(before.extra["ema"], after.params),
        )
        _close(after.extra["ema"], average, rtol=1e-5, atol=1e-6)


def test_train_step_keeps_structure_shapes_and_dtypes(trained):
    *_, states, sums = trained
    before, after = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        for state in (states[0], states[1])
    )
    assert after == before
    assert "loss" in sums[0]


def test_metrics_are_sums_that_say_what_they_are_of(trained):
    *_, sums = trained
    for name in sums[0]:
        merged = jax.tree.map(np.add, sums[0][name], sums[1][name])
        one, two = sums[0][name].count, sums[1][name].count
        np.testing.assert_allclose(merged.count, one + two, rtol=1e-6)
        if merged.count:
            assert merged.compute() is not None


def test_step_counts_and_everything_trains(trained):
    algorithm, states = trained[1].algorithm, trained[3]
    assert [int(state.step) for state in states] == list(range(STEPS + 1))
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), states[0].params, states[-1].params
    )
    if algorithm.embeds:  # by an encoder that rests
        assert not any(jax.tree.leaves(moved.pop("encoder")))
    assert all(jax.tree.leaves(moved)), moved


def test_loss_falls_on_a_batch_seen_again_and_again(trained):
    _, phase, program, states, sums = trained
    item = next(phase.feed.items(0, 1))
    zeros = jax.tree.map(np.zeros_like, sums[0])
    state, losses = states[0], []
    for _ in range(100):
        state, metrics = program.call(state, zeros, phase.feed.arrays, item)
        # Where an unlabeled term grows as its mask opens, the labeled one must fall; of
        # a student and its teacher that of the one which learns labels.
        names = ("teacher_labeled_loss", "labeled_loss", "loss")
        loss = next(metrics[name] for name in names if name in metrics)
        losses.append(float(loss.compute()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2]), losses


def test_predict_and_features_fit_the_batch(trained):
    """And go by each image, not by the others or their labels; and by the average of
    the network, where there is one."""
    _, phase, _, states, _ = trained
    batch = _first_batch(phase)
    others = dict(batch, label=jnp.zeros_like(batch["label"]))
    half = slice(0, len(batch["label"]))  # a graph's nodes do hear of each other
    if "image" in batch:
        half = slice(0, len(batch["image"]) // 2)
        others["image"] = batch["image"].at[half.stop :].set(0)
    alike = states[-1]
    if "ema" in alike.extra:  # by which it is judged
        alike = alike.replace(params=states[0].params)
    if core.can(phase.algorithm, "predict"):
        predict = jax.jit(phase.algorithm.predict)
        logits_BK = predict(states[-1], batch)
        assert logits_BK.shape == (len(batch["label"]), 10)
        assert logits_BK.dtype == jnp.float32
        alike_BK = predict(alike, others)
        np.testing.assert_allclose(logits_BK[half], alike_BK[half], atol=1e-5)
    features = jax.jit(phase.algorithm.features)
    features_BD = features(states[-1], batch)
    assert features_BD.shape[0] == len(batch["label"]) and features_BD.ndim == 2
    alike_BD = features(alike, others)
    np.testing.assert_allclose(features_BD[half], alike_BD[half], atol=1e-5)


@on_four
def test_four_devices_equal_one(trained, on_four_devices):
    """Later than 10 steps chaos amplifies the rounding."""
    *_, sums_of_one = trained
    *_, sums_of_four = on_four_devices
    if "share_kept" in sums_of_one[0]:  # pseudo-labels had a say
        assert sum(one["share_kept"].total for one in sums_of_one) > 0
    for one, four in zip(sums_of_one, sums_of_four, strict=True):
        for name in one:
            tolerance = dict(rtol=1e-5, atol=1e-6, err_msg=name)  # atol: near zero
            # Close, not equal: pseudo-labels may count by soft weights.
            np.testing.assert_allclose(four[name].count, one[name].count, **tolerance)
            if one[name].count:
                np.testing.assert_allclose(
                    _value(four[name]), _value(one[name]), **tolerance
                )


@on_four
def test_compiled_for_four_devices_it_exchanges_sums_only(trained, on_four_devices):
    """And projections, where a method says that it gathers them."""
    config, program = trained[0], on_four_devices[0]
    compiled = inspect.unwrap(program.call).as_text()
    exchanges = re.findall(
        r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        r"|collective-broadcast|ragged-all-to-all)(?:-start)?\(",
        compiled,
    )
    algorithm = algorithms.find(config.train.algorithm.name)
    # Whole on every device.
    everywhere = algorithm.draws_from == "graph" or algorithm.embeds == "labeled"
    gathers = {"all-gather"} if algorithm.gathers else set()
    assert set(exchanges) == (set() if everywhere else {"all-reduce"} | gathers)
    for gathered in re.findall(r"= (.*) all-gather(?:-start)?\(", compiled):
        shapes = {f"[{config.train.batch_size},{config.train.algorithm.projection}]"}
        shapes |= {f"[{config.train.batch_size}]"}  # labels
        assert set(re.findall(r"\[[\d,]+\]", gathered)) <= shapes, gathered


def test_saved_restored_and_gone_on_is_bitwise_the_same(trained, tmp_path):
    _, phase, program, states, sums = trained
    like = jax.device_put({"state": states[0], "sums": sums[0]}, phase.mesh.devices[0])
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(6, {"state": states[6], "sums": sums[6]})
        checkpoints.wait()
        restored = checkpoints.restore(6, like)
    state, step_sums = restored["state"], restored["sums"]
    for item in phase.feed.items(6, STEPS):
        state, step_sums = program.call(state, step_sums, phase.feed.arrays, item)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), states[-1])
    added = jax.tree.map(lambda *leaves: sum(leaves), sums[6], *sums[6:])
    _close(jax.device_get(step_sums), added, rtol=1e-5, atol=1e-6)


def test_teachers_and_targets_get_no_gradient(trained):
    config, _, _, states, _ = trained
    plain = config.copy_and_resolve_references()
    if "strong" in plain.train.augment:
        plain.train.augment.update(weak="none", strong="none")  # compiles sooner
    phase = tiny.build(plain)
    batch = _first_batch(phase)

    def loss(extra):
        state = states[3].replace(extra=extra)
        _, metrics = phase.algorithm.train_step(state, batch, jax.random.key(0))
        return metrics["loss"].total

    grads = jax.jit(jax.grad(loss, allow_int=True))(states[3].extra)
    for leaf in jax.tree.leaves(grads):
        if leaf.dtype != jax.dtypes.float0:
            np.testing.assert_array_equal(leaf, 0)


def _close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def _value(metric):
    """A number or a vector; of a calibration what no rounding at a bin's edge moves."""
    if isinstance(metric, Calibration):
        return metric.sums_3M.sum(1)
    return metric.compute()


def _first_batch(phase):
    item = next(phase.feed.items(0, 1))
    item = jax.tree.map(lambda leaf: leaf[0], item)
    return phase.feed.batch(phase.feed.arrays, item)


def _equal(one, other):
    same = jax.tree.map(np.array_equal, one, other)
    return all(jax.tree.leaves(same))
