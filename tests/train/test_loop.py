"""What a run leaves, when it stops, and how phases follow each other."""

import functools
import gzip
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import tiny
from configs import base
from ssl_jax.data import feeds, loading
from ssl_jax.errors import UserError
from ssl_jax.evaluate import batches
from ssl_jax.report.figures import curves
from ssl_jax.train import evaluations, loop, phases, pictures, sections
from ssl_jax.train.run import run
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.logs import Clock

ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Two phases: supervised, then FixMatch from its encoder and head."""
    config = tiny.config("supervised.Supervised")
    config.phases = ("warmup", "train")
    config.warmup = config.train.copy_and_resolve_references()
    config.warmup.unlabeled_ratio = 0
    config.train = tiny.config().train
    config.train.update(start_from="warmup", keep=("encoder", "head"))
    config.data.num_validation = 50
    workdir = tmp_path_factory.mktemp("chain") / "run"
    return config, workdir, run(config, workdir, devices=ONE)


def _params(workdir, phase, step):
    return _state(workdir, phase, step)["params"]


def _state(workdir, phase, step):
    with Checkpoints(workdir / phase / "checkpoints") as checkpoints:
        assert step in checkpoints.steps
        return checkpoints.newest()[1]["state"]


def test_result_has_the_documented_fields(chain):
    config, workdir, result = chain
    assert result == json.loads((workdir / "result.json").read_text())
    assert set(result) == {
        *("name", "seed", "config", "device", "versions", "git", "data"),
        *("phases", "test", "resumed"),
    }
    assert list(result["phases"]) == ["warmup", "train"]
    assert set(result["phases"]["train"]) == {
        *("algorithm", "steps", "stopped", "seconds", "compile_seconds"),
        *("images_per_second", "val", "test"),
    }
    assert set(result["test"]) == {
        *("accuracy", "accuracy_median20", "evaluations", "accuracy_at_best_val"),
        *("accuracy_best_on_test", "balanced_accuracy", "geometric_mean", "f1"),
    }
    assert result["test"] == result["phases"]["train"]["test"]
    assert result["device"]["count"] == 1 and result["resumed"] == 0
    assert result["data"]["classes"] == {str(c): 2 for c in range(10)}
    assert result["data"]["unlabeled"] == 1_297 - 20 - 50
    assert 0 <= result["phases"]["train"]["val"]["accuracy"] <= 1


def test_journal_has_a_row_a_log_point(chain):
    _, workdir, result = chain
    rows = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["step"]) for row in rows] == [
        *[("warmup", 2), ("warmup", 4), ("train", 2), ("train", 4)],
    ]
    assert {"train/loss", "train/learning_rate", "val/accuracy", "test/loss"} <= set(
        rows[-1]
    )
    assert rows[0]["train/learning_rate"] == pytest.approx(0.02825, abs=1e-5)
    assert rows[-1]["test/accuracy"] == result["test"]["accuracy"]
    assert rows[0]["seconds"] < rows[1]["seconds"]


def test_a_row_is_of_the_steps_since_the_one_before(chain):
    """What it was the mean of is not in the checkpoint behind it."""
    _, workdir, _ = chain
    with Checkpoints(workdir / "train" / "checkpoints") as checkpoints:
        step, tree = checkpoints.newest()
    assert step == 4 and {"loss", "kept_accuracy"} <= tree["sums"].keys()
    assert not any(map(np.any, jax.tree.leaves(tree["sums"])))


def test_config_figures_and_checkpoints_are_there(chain):
    _, workdir, _ = chain
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["config"]["train"]["algorithm"]["threshold"] == 0.95
    assert {"jax", "flax", "python", "ssl_jax"} <= set(saved["versions"])
    figures = {path.name for path in (workdir / "figures").glob("*.png")}
    assert figures == {
        f"{phase}_{kind}.png"
        for phase, kinds in {
            "warmup": ("views", "learning_curves", "confusion_matrix"),
            "train": (
                *("views", "learning_curves", "confusion_matrix"),
                *("pseudo_labels", "pseudo_label_classes", "reliability"),
            ),
            "phases": ("comparison",),
        }.items()
        for kind in kinds
    }


def test_what_is_said_of_held_out_images_is_kept(chain):
    _, workdir, result = chain
    with np.load(workdir / "train" / "said.npz") as said:
        said = dict(said)
    logits_MK, labels_M = said["test_logits_MK"], said["test_labels_M"]
    right_M = logits_MK.argmax(1) == labels_M
    accuracy = result["test"]["accuracy"]
    assert right_M.mean() == pytest.approx(accuracy) and len(right_M) == 500
    assert said["val_logits_MK"].shape == (50, 10)
    assert said["images_NHWC"].shape == (len(said["rows"]), 8, 8, 1)
    assert not right_M[said["rows"][:16]].any() and right_M[said["rows"][16:]].all()


def test_a_failing_figure_costs_no_run_and_is_drawn_by_a_later_launch(
    tmp_path, monkeypatch
):
    def broken(*_):
        raise ValueError("no formula")

    config, workdir = tiny.config("gcn.GCN"), tmp_path / "run"  # the soonest compiled
    figures = workdir / "figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "confusion_matrix", broken)
        patch.setattr(pictures, "before", lambda _: {"views": broken})
        result = run(config, workdir, devices=ONE)
    assert result == json.loads((workdir / "result.json").read_text())
    assert {path.name for path in figures.iterdir()} == {
        *("train_confusion_matrix.failed.txt", "train_learning_curves.png"),
        "train_views.failed.txt",
    }
    monkeypatch.setattr(pictures, "before", lambda _: {"views": Figure})
    journal = (workdir / "metrics.jsonl").read_bytes()
    assert run(config, workdir, devices=ONE) == result
    assert (workdir / "metrics.jsonl").read_bytes() == journal
    assert {path.name for path in figures.iterdir()} == {
        *("train_confusion_matrix.png", "train_learning_curves.png"),
        "train_views.png",
    }
    # Then nothing is left to draw, and nothing is read.
    monkeypatch.setattr(loading, "load", broken)
    assert run(config, workdir, devices=ONE) == result


def test_figures_say_of_which_run_they_are():
    config = tiny.config("supervised.Supervised")
    config.seed = 3
    phase = tiny.build(config)
    assert phase.title == "tiny_debug, train (seed 3, 20 labels)"
    config.num_seeds = 2
    data, wanted = tiny.load(config, phase.mesh), sections.parse(config)
    assert phases.title(wanted, data.split) == "tiny_debug (seeds 3 to 4, 20 labels)"
    # Nodes of a graph are no images.
    config = tiny.config("gcn.GCN")
    data = tiny.load(config, phase.mesh)
    phase = tiny.phase(config, "train", data, phase.mesh)
    rows = [{"step": 1, "train/loss": 1.0}]
    shown = pictures.after(phase, data, None, rows, np.eye(10))
    assert shown["confusion_matrix"]().get_suptitle().endswith(" on 10 test nodes")


def test_example_views_are_those_that_the_algorithm_asks_for():
    for algorithm, names in (
        ("supervised.Supervised", ["plain", "weak"]),
        ("fixmatch.FixMatch", ["plain", "weak", "strong"]),
    ):
        phase = tiny.build(tiny.config(algorithm))
        views = pictures.example_views(phase, count=3)
        assert list(views) == names
        assert {view.dtype for view in views.values()} == {np.dtype("uint8")}
        dataset, split, *_ = loading.load(tiny.config().data, phase.mesh, seed=0)
        rows = feeds.unlabeled_at(0, seed=0, size=len(split.unlabeled), batch=16)[:3]
        pool = dataset.images_NHWC[split.unlabeled[rows]]
        np.testing.assert_array_equal(views["plain"], pool)  # normalised and back


def test_a_phase_starts_from_what_the_earlier_one_left(chain, tmp_path):
    """With a learning rate of nearly 0 the second phase ends where the average that the
    first was judged by did."""
    config, workdir, _ = chain
    still = config.copy_and_resolve_references()
    still.phases = ("train",)
    still.train.start_from = str(workdir)
    with pytest.raises(UserError, match="several phases: name one, such as .*/warmup"):
        run(still, tmp_path / "still", devices=ONE)
    still.train.start_from = str(workdir / "train")
    still.train.optimizer.learning_rate = 1e-12
    run(still, tmp_path / "still", devices=ONE)
    jax.tree.map(
        lambda now, before: np.testing.assert_allclose(now, before, atol=1e-9),
        _params(tmp_path / "still", "train", 4),
        _state(workdir, "train", 4)["extra"]["ema"],
    )


def test_killed_between_two_phases_it_ends_the_same(chain, tmp_path):
    config, workdir, result = chain
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/train")
    (tmp_path / "run/result.json").unlink()
    again = run(config, tmp_path / "run", devices=ONE)
    assert again["resumed"] == 1
    assert again["test"] == result["test"]
    jax.tree.map(
        np.testing.assert_array_equal,
        _params(tmp_path / "run", "train", 4),
        _params(workdir, "train", 4),
    )


def test_a_resumed_phase_counts_the_seconds_before_its_checkpoint(
    chain, tmp_path, monkeypatch
):
    """Which is behind the last row: by an evaluation, or by steps that have no row."""
    config, workdir, _ = chain
    rows = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    two, four = (row["seconds"] for row in rows if row["phase"] == "train")
    with Checkpoints(workdir / "train/checkpoints") as checkpoints:
        assert two < checkpoints.seconds(2) < four < checkpoints.seconds(4)
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/train/checkpoints/4")
    for file in ("result.json", "train/done.json"):
        (tmp_path / "run" / file).unlink()
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "seconds", lambda _, step: asked.append(step) or 500)
        again = run(config, tmp_path / "run", devices=ONE)
    assert asked == [2] and again["phases"]["train"]["seconds"] > 500


def test_seconds_are_without_what_compiles_an_evaluation(chain, tmp_path, monkeypatch):
    """Which `compile_seconds` have, once a launch."""
    config = chain[0].copy_and_resolve_references()
    config.phases, now, compiled = ("warmup",), [0.0], []

    def monotonic():
        now[0] += 1e-3
        return now[0]

    def compile_evaluation(*args):
        evaluation = batches.compile_evaluation(*args)

        def sums(*args):
            if len(compiled) < 2:  # of two sets
                compiled.append(now[0])
                now[0] += 1000
            return evaluation.sums(*args)

        return evaluation._replace(sums=sums)

    monkeypatch.setattr(evaluations, "compile_evaluation", compile_evaluation)
    monkeypatch.setattr(loop, "Clock", functools.partial(Clock, time=monotonic))
    monkeypatch.setattr(evaluations, "time", SimpleNamespace(monotonic=monotonic))
    result = run(config, tmp_path / "run", devices=ONE)["phases"]["warmup"]
    assert result["test"]["evaluations"] == len(compiled) == 2
    assert result["seconds"] < 1 and 2000 < result["compile_seconds"]


def test_steps_per_call_placement_and_a_trace_change_no_number(chain, tmp_path):
    config, _, _ = chain
    one = config.copy_and_resolve_references()
    one.phases = ("train",)
    one.train.start_from = "scratch"
    other = one.copy_and_resolve_references()
    other.train.steps_per_call = 2
    other.data.placement = "host"
    one.profile = 2
    results = [
        run(c, tmp_path / str(i), devices=ONE) for i, c in enumerate((one, other))
    ]
    assert results[0]["test"] == results[1]["test"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        *(_params(tmp_path / name, "train", 4) for name in "01"),
    )
    traces = tmp_path / "0/train/profile/plugins/profile"
    (xprof,) = traces.glob("*/*.xplane.pb")
    (perfetto,) = traces.glob("*/perfetto_trace.json.gz")
    assert b"train" in xprof.read_bytes()
    events = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    steps = [event["args"] for event in events if event.get("name") == "train"]
    assert sorted(step["step_num"] for step in steps) == ["2", "3"]
    names = {event.get("name", "") for event in events}
    assert any("convolution" in name for name in names), sorted(names)  # an operation


def test_the_scan_of_a_gpu_trains_as_the_unrolled_steps_of_a_cpu(monkeypatch):
    config = tiny.config("supervised.Supervised")
    config.train.update(unlabeled_ratio=0, steps_per_call=2)
    _, unrolled, _ = tiny.train(tiny.build(config), 4)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    program, scanned, _ = tiny.train(tiny.build(config), 4)
    assert int(scanned[-1].step) == 4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        unrolled[-1],
        scanned[-1],
    )


def test_a_stable_loss_ends_a_phase_and_is_told_of(tmp_path, capfd):
    """By patience it ends in tests/whole/test_resume.py."""
    config = tiny.config("supervised.Supervised")
    config.data.num_validation = 50
    config.train.update(unlabeled_ratio=0, steps=40, loss_patience=2, loss_gain=1e-3)
    config.train.optimizer.learning_rate = 1e-12  # the loss never changes
    config.model.update(bn_warmup=False, bn_momentum=1 - 1e-9)  # nor do moments
    result = run(config, tmp_path / "run", devices=ONE)
    phase = result["phases"]["train"]
    assert phase["stopped"] == "loss_patience"
    assert phase["steps"] == 2 * 3  # the best, and two without gain
    said = (
        "stops at step 6 of 40: the validation loss is stable, the lowest of the last"
    )
    assert said in capfd.readouterr().err
    assert phase["test"]["evaluations"] == 3


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(tmp_path):
    config = tiny.config("supervised.Supervised")
    config.train.update(unlabeled_ratio=0, steps=40)
    # Explodes after the first checkpoint, at step 2.
    config.train.optimizer.update(
        schedule="cosine", warmup_steps=3, learning_rate=1e30, weight_decay=0.0
    )
    with pytest.raises(UserError, match="not finite|loss is (nan|inf)"):
        run(config, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run/result.json").exists()


def test_intervals_and_patience_are_checked_before_anything_is_written(tmp_path):
    config = tiny.config()
    for change, message in (
        ({"steps_per_call": 3}, "steps=4 is not a multiple of train.steps_per_call=3"),
        ({"patience": 1}, "patience=1 needs validation images"),
        ({"loss_patience": 1}, "loss_patience=1 needs validation images"),
        ({"eval_every": 0}, "eval_every=0 must be at least 1"),
    ):
        wrong = config.copy_and_resolve_references()
        wrong.train.update(change)
        with pytest.raises(UserError, match=message):
            run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unlabeled_images_that_a_method_lacks_are_asked_for(tmp_path):
    config = tiny.config()
    config.train.unlabeled_ratio = 0
    with pytest.raises(UserError, match="unlabeled_ratio=0 must be at least 1"):
        run(config, tmp_path / "run", devices=jax.devices()[:1])
    assert not (tmp_path / "run").exists()


def test_bfloat16_trains(tmp_path):
    config = base.debug(base.run("tiny"), 8, 8, 1, 10)
    config.model.dtype = "bfloat16"
    result = run(config, tmp_path / "run", devices=ONE)
    assert np.isfinite(result["test"]["accuracy"])
