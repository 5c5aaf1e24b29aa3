"""Committed measurements are what the documents say of them, and of today's configs."""

from statistics import median

from absl import flags

from committed import assert_of_today, every, read
from experiments import jobs
from experiments.speed import before, first_step, race
from ssl_jax.augment import crops


def only(experiment, name):
    (measured,) = read(experiment)[name]
    return measured


def test_a_step_beside_pytorchs_and_what_is_said_of_it():
    """Ratios are of one round each; README, results.md and gpu.md on three rows."""
    found = {name: one for name, (one,) in read("peers").items()}
    for name, one in found.items():
        ours = one["seconds"]["ours"]
        for peer in one["seconds"].keys() - {"ours"}:
            theirs = one["seconds"][peer]
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            assert one["ratios"][peer] == ratios, name
            assert one["median_ratio"][peer] == median(ratios), name
        if name.startswith("cpu_"):
            assert one["one_step"] is None, "README: with --nocheck, as here"
    first, *later = found["cpu_fixmatch"]["seconds"]["ours"]
    assert {*found["cpu_fixmatch"]["seconds"]} == {"ours", "workers", "tuned"}
    assert first > max(later)  # memory still grows
    rounds = found["cpu_fixmatch_nograd"]["seconds"]["ours"]
    took_memory = [s for s in rounds if s > 1.5 * median(rounds)]
    assert (len(took_memory), len(rounds)) == (2, 5)
    gpu = found["gpu_bfloat16_fixmatch"]
    assert {*gpu["seconds"]} == {"ours", "tuned"} and gpu["precision"] == "bfloat16"
    assert gpu["compiled"] == {"chosen": "eager", "tried": {}}
    assert "H100 80GB" in gpu["device"]["kind"]


def test_streamed_images_are_not_kept():
    """data.md: memory stays as it is; data/streams.py: threads, and not processes."""
    measured = only("stream_speed", "memory_cpu")
    marks = {int(at): mib for at, mib in measured["held_MiB"].items()}
    first, last = min(marks), max(marks)
    streamed = (last - first) * measured["images_per_step"] * 28 * 28 / 2**20  # MNIST's
    assert marks[last] - marks[first] < streamed
    assert measured["threads_left"] == 0
    workers = only("stream_speed", "decoding_cpu")["workers"]
    for number in (1, 2):
        threads, processes = (
            workers[f"{number} {n}"] for n in ("threads", "processes")
        )
        assert threads["step_ms"] < processes["step_ms"]
        assert "start_seconds" not in threads and processes["start_seconds"] > 0
    rate = only("stream_speed", "rate_cpu")
    assert rate["ratio"] == median(rate["ratios"])


def test_a_second_start_finds_the_programs_of_the_first():
    measured = only("first_step", "cpu")
    assert (*measured["starts"],) == first_step.CONFIGS
    for starts in measured["starts"].values():
        for taken in starts["rounds"]:
            assert all(taken[of] < starts["first"][of] for of in taken)


def test_steps_are_quicker_than_on_the_commit_before():
    """The one of results.md, in every round."""
    found = every(read("before"))
    assert len(found) == len(before.RUNS)
    for name, one in zip(before.RUNS, found, strict=True):
        assert_of_today(jobs.load(name), one["config"])
        assert one["commits"]["before"]["commit"].startswith("6ae31b6")
        assert min(one["ratios"]) > 1 and one["times_as_fast"] == median(one["ratios"])


def test_the_race_is_the_one_of_gpu_md():
    """Its flags, and that one evaluation comes early: a checkpoint kept no time."""
    ((one,),) = read("race").values()
    given = flags.FlagValues()
    race.define_flags(given)
    field = "--field=train.algorithm.weak_gradient=false"
    given(["race", "--run=cifar10:fixmatch", "--labels=4000", field])
    (run,), (labels,) = given.run, given.labels
    config = race.configured(run, int(labels), given)
    race.as_paced(config.train, one["config"]["train"])
    config.train.steps = one["steps"]
    assert_of_today(config, one["config"])
    assert one["over"] and one["trained"] == one["steps"]
    assert "H100 80GB" in one["device"]["kind"]
    at = [seconds for seconds, _, _ in one["curve"]]
    between = [b - a for a, b in zip(at, at[1:], strict=False)]
    (lost,) = (i for i, s in enumerate(between) if s < median(between) / 2)
    # Compiling an evaluation: three seconds, and half as much in the second call.
    first = between[0] - median(between[1:lost])
    second = between[lost + 1] - median(between[lost + 2 :])
    assert (round(first), round(first / second)) == (3, 2)


def test_views_are_resampled_and_blurred_the_way_that_takes_least():
    """What augment/crops.py and color.py say of the others, in CPU time."""
    measured = only("views_speed", "cpu")
    assert measured["view"]["times_pillow"]["ours"] > 1

    def times(of, other):
        taken = of["cpu_microseconds_per_image"]
        return taken[other] / taken["ours"]

    said = " ".join(crops.__doc__.split())
    found = measured["resampling"].values()
    for other, begins in {
        "two_products": "two products take",
        "two_gathers": "and two gathers",
        "scale_and_translate": "`jax.image.scale_and_translate` takes",
    }.items():
        low, *_, high = sorted(times(of, other) for of in found)
        assert f"{begins} {low:.1f} to {high:.1f} times" in said
        outside = other == "scale_and_translate"  # lets pixels from there in
        assert all((of["max_difference"][other] > 1e-3) == outside for of in found)
    assert round(times(measured["blur"]["32x32"], "shifts"), 1) == 0.5
    assert round(times(measured["blur"]["64x64"], "shifts")) == 3
