"""The benchmark measures what it says, on a config that takes seconds."""

import functools

import jax
import jax.numpy as jnp
import pytest

import tiny
from experiments import jobs
from experiments.speed import augment_speed, benchmark, flops, tables, where
from ssl_jax.errors import UserError
from ssl_jax.train.program import at, first_item


def test_every_figure_is_there_for_every_device_count():
    config = tiny.config("supervised.Supervised")
    config.train.unlabeled_ratio = 0
    results = benchmark.measure(config, [1, 2], steps=4, rounds=1, shrink=64)
    one, two = results["runs"]
    assert (one["devices"], two["devices"]) == (1, 2)
    for run in (one, two):
        assert run["images_per_second"] == pytest.approx(8 * run["steps_per_second"])
        for name in ("full", "bare", "augmented"):
            assert len(run["rounds"][name]) == 1 and run["rounds"][name][0] > 0
        assert run["loop_to_bare"] > 0 and run["peak_memory_bytes"] > 0
        said = run["where"]
        assert said["flops"] == one["where"]["flops"] > 0
        assert said["flops"] == pytest.approx(said["xla_flops"], rel=0.3)
        assert said["bytes"] > 0 and said["of_matmul"] > 0 and said["of_copy"] > 0
        assert list(said["share"]) == ["views", "update", "network", "host"]
        assert sum(said["share"].values()) == pytest.approx(1)
        assert said["share"]["views"] > 0 and said["share"]["update"] > 0
    assert one["scaling_efficiency"] == 1
    gain = two["steps_per_second"] / one["steps_per_second"]
    assert two["scaling_efficiency"] == pytest.approx(gain / 2)
    lines = tables.of_benchmark(results).splitlines()
    assert len(lines) == 11 and "loop to bare" in lines[0]
    assert lines[7].startswith("| devices | GFLOP a step | by XLA")
    del results["runs"][0]["where"]  # as it once was
    assert len(tables.of_benchmark(results).splitlines()) == 4


def test_views_are_those_that_a_step_asks_for_and_averages_are_moved():
    config = tiny.config()
    phase = tiny.build(config)
    arrays, item = phase.feed.arrays, at(first_item(phase), 0)
    with jax.set_mesh(phase.mesh):
        batch = jax.eval_shape(phase.feed.batch, arrays, item)
        state = jax.eval_shape(phase.algorithm.init, phase.key, batch)
        viewed = functools.partial(where.viewed, phase)
        views = jax.eval_shape(viewed, state, arrays, item)
    sizes = [len(batch[name]) for name in ("image", "unlabeled_image")]
    assert [len(view) for view in views] == [sizes[0], sizes[1], sizes[1]]
    assert list(where.averages(state)) == ["ema"]  # and not thresholds


def test_operations_are_those_that_somebody_has_to_do():
    def convolution(x, w, stride=1, padding="SAME", groups=1):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    x, w = jnp.ones((2, 4, 4, 3)), jnp.ones((3, 3, 3, 5))
    # Of 4 places and 3 taps 10 pairs meet a pixel on each axis.
    assert flops.of(convolution, x, w) == 2 * 2 * 10**2 * 3 * 5
    both = jax.grad(lambda *args: (convolution(*args) ** 2).sum(), argnums=(0, 1))
    assert flops.of(both, x, w) == 3 * flops.of(convolution, x, w)
    # A stride of 2 leaves 2 places an axis, with 5 pairs, and dilates the gradient.
    halved = functools.partial(convolution, stride=2)
    assert flops.of(halved, x, w) == 2 * 2 * 5**2 * 3 * 5
    both = jax.grad(lambda *args: (halved(*args) ** 2).sum(), argnums=(0, 1))
    assert flops.of(both, x, w) == 3 * flops.of(halved, x, w)
    each = functools.partial(convolution, groups=3)
    assert flops.of(each, x, jnp.ones((3, 3, 1, 3))) == 2 * 2 * 10**2 * 3
    a, b = jnp.ones((7, 2, 3)), jnp.ones((7, 3, 5))
    assert flops.of(jnp.matmul, a, b) == 2 * 7 * 2 * 3 * 5

    def looped(x):  # which XLA takes once
        return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=9)[0]

    branch = jax.checkpoint(lambda x: jax.lax.cond(x[0, 0] > 0, looped, jnp.sin, x))
    assert flops.of(branch, jnp.ones((4, 4))) == 9 * 2 * 4**3


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"\[1, 64\].*only 4"):
        benchmark.measure(tiny.config(), [1, 64], steps=4, rounds=1)


def test_pillow_and_the_compiled_view_do_the_same_work():
    measured = augment_speed.measure(batch=16, rounds=1, repeats=1)
    assert measured["ratio"] > 0


def test_methods_are_compared_in_alternation():
    config = jobs.load("digits:debug")
    results = benchmark.compare(config, ["digits:flexmatch,debug"], steps=2, rounds=2)
    names = ["fixmatch_digits_debug", "flexmatch_digits_debug"]
    assert list(results["ratios"]) == names
    assert results["ratios"][names[0]] == [1, 1]
    first, second = (results["seconds_per_step"][name] for name in names)
    assert results["ratios"][names[1]] == [
        b / a for a, b in zip(first, second, strict=True)
    ]
