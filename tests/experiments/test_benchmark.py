"""The benchmark measures what it says, on a config that takes seconds."""

import pytest

import tiny
from experiments import jobs
from experiments.speed import augment_speed, benchmark, tables
from ssl_jax.errors import UserError


def test_every_figure_is_there_for_every_device_count():
    config = tiny.config("supervised.Supervised")
    config.train.unlabeled_ratio = 0
    results = benchmark.measure(config, [1, 2], steps=4, rounds=1)
    one, two = results["runs"]
    assert (one["devices"], two["devices"]) == (1, 2)
    for run in (one, two):
        assert run["images_per_second"] == pytest.approx(8 * run["steps_per_second"])
        for name in ("full", "bare", "augmented"):
            assert len(run["rounds"][name]) == 1 and run["rounds"][name][0] > 0
        assert run["loop_to_bare"] > 0 and run["peak_memory_bytes"] > 0
    assert one["scaling_efficiency"] == 1
    gain = two["steps_per_second"] / one["steps_per_second"]
    assert two["scaling_efficiency"] == pytest.approx(gain / 2)
    lines = tables.of_benchmark(results).splitlines()
    assert len(lines) == 4 and "loop to bare" in lines[0]


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
