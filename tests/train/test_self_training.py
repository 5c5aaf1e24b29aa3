"""Rounds of self-training: which images are taken, what reaches the student, and that
a round that was stopped ends the same."""

import shutil
import signal

import jax
import numpy as np
import pytest

import tiny
from configs import base, pseudo_label_mnist
from experiments.speed import kill_resume
from ssl_jax import core
from ssl_jax.data import feeds, loading, placement
from ssl_jax.errors import UserError
from ssl_jax.train import loop, program, restored, self_training
from ssl_jax.train.run import run
from ssl_jax.workdir.checkpoints import Checkpoints, checksum
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.workdir import Workdir

ONE = jax.devices()[:1]
PHASES = ("teacher", "student1", "student2")


def _config():
    """Two rounds. The first takes by confidence and goes on from its teacher with hard
    labels; the second balances the classes, from scratch with soft ones."""
    config = tiny.config()
    config.model = base.model("mlp", features=(16,))  # compiles sooner, as do no views
    noisy, supervised = "noisy_student.NoisyStudent", "supervised.Supervised"
    for name, algorithm in zip(PHASES, (noisy, supervised, noisy), strict=True):
        phase = tiny.config(algorithm, ema_decay=0.5).train
        phase.update(unlabeled_ratio=0, batch_size=16)
        phase.augment.update(weak="none", strong="none")
        config[name] = phase
    config.phases = PHASES
    config.teacher.update(steps=40, log_every=10, eval_every=10, checkpoint_every=10)
    config.student1.update(start_from="teacher", keep=("encoder", "head"), steps=8)
    config.student1.update(labels_from="teacher", confidence=0.6)
    config.student2.update(labels_from="student1", per_class=15, steps=8)
    return config


def _without(workdir, other, *names):
    """Copies a run, as if it had been killed before the phases `names`."""
    shutil.copytree(workdir, other)
    (other / "result.json").unlink()
    for name in names:
        shutil.rmtree(other / name)


def _sum(workdir, phase):
    with Checkpoints(workdir / phase / "checkpoints") as checkpoints:
        return checksum(checkpoints.newest()[1])


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    config = _config()
    workdir = tmp_path_factory.mktemp("self_training") / "calm"
    return config, workdir, run(config, workdir, devices=ONE)


# Which images are taken, by hand.
PROBS_NK = np.float32(
    [
        [0.9, 0.1, 0.0],
        [0.3, 0.6, 0.1],
        [0.75, 0.2, 0.05],
        [0.5, 0.2, 0.3],  # just at the threshold
        [0.4, 0.45, 0.15],  # below
        [0.95, 0.05, 0.0],
    ]
)


def test_choose_takes_the_sure_ones_and_balances():
    def chosen(per_class, share_K=(1, 1, 1), confidence=0.5):
        return self_training.choose(
            PROBS_NK, confidence=confidence, per_class=per_class, share_K=share_K
        ).tolist()

    assert chosen(0) == [0, 1, 2, 3, 5]
    # Class 0 has four, surest first; class 1 has one, repeated; class 2 has none.
    assert chosen(3) == [5, 0, 2, 1, 1, 1]
    assert chosen(6) == [5, 0, 2, 3, 5, 0, *[1] * 6]
    assert not chosen(2, confidence=0.96)
    # The surest part of a class alone.
    assert chosen(0, (0.5, 1, 1)) == [0, 1, 5] and chosen(0, (1, 0.9, 1)) == [
        0,
        2,
        3,
        5,
    ]
    assert chosen(3, (0.5, 1, 1)) == [5, 0, 5, 1, 1, 1]


def test_of_rarer_classes_more_is_taken():
    """CReST's rule by its paper's example: of 100 to 1, with alpha = 1/3, all of the
    rarest class and 1/100^(1/3) of the most frequent one."""
    share_K = self_training.shares(np.array([10, 100, 1]), 1 / 3)
    np.testing.assert_allclose(share_K, np.cbrt([0.1, 0.01, 1]))
    assert self_training.shares(np.array([7, 7]), 1 / 3).tolist() == [1, 1]
    assert self_training.shares(np.array([10, 100, 1]), 0.0).tolist() == [1, 1, 1]


def test_summary_counts_each_image_once_and_where_truth_is_known():
    label_N = PROBS_NK.argmax(-1)
    truth_N = np.array([0, 2, -1, 0, 1, 0])
    assert self_training.summary(label_N, np.array([0, 1, 2, 5]), truth_N, 3) == {
        "kept": 4,
        "of": 6,
        "share_kept": 4 / 6,
        "kept_accuracy": 2 / 3,  # images 0, 1 and 5: 1 is wrong, 2 is not known
        "rejected_accuracy": 1.0,  # 3 and 4
        "per_class": [3, 1, 0],
    }
    unknown = self_training.summary(label_N, np.arange(6), np.full(6, -1), 3)
    assert unknown["kept_accuracy"] is None and unknown["rejected_accuracy"] is None


def test_two_rounds_record_what_the_phase_before_said(calm):
    config, workdir, result = calm
    mesh = core.make_mesh(ONE)
    data = tiny.load(config, mesh)
    candidates = np.setdiff1d(data.split.unlabeled, data.split.labeled)
    truth_N = data.dataset.labels_N
    for student, teacher in (("student1", "teacher"), ("student2", "student1")):
        phase = tiny.phase(config, teacher, data, mesh)
        with (
            Checkpoints(workdir / teacher / "checkpoints") as checkpoints,
            jax.set_mesh(mesh),
        ):
            like = program.like(phase)
            state = checkpoints.restore(checkpoints.steps[-1], like)["state"]
            images = data.dataset.images_NHWC[candidates]
            logits_NK = phase.algorithm.predict(state, {"image": images})
        probs_NK = np.asarray(jax.nn.softmax(logits_NK))
        saved = np.load(workdir / student / "pseudo_labels.npz")
        np.testing.assert_array_equal(saved["all_index"], candidates)
        np.testing.assert_allclose(saved["all_probs"], probs_NK, atol=1e-6)
        at = np.searchsorted(candidates, saved["index"])
        label_n, all_label_N = saved["label"], saved["all_probs"].argmax(-1)
        np.testing.assert_array_equal(label_n, all_label_N[at])
        confidence_N = saved["all_probs"].max(-1)
        np.testing.assert_array_equal(saved["confidence"], confidence_N[at])
        kept = set(at.tolist())
        if student == "student1":
            assert kept == set(np.flatnonzero(confidence_N >= 0.6))
            assert 0 < len(kept) < len(candidates)
        else:
            for c in range(10):
                of_class = np.flatnonzero(all_label_N == c)
                surest = sorted(of_class, key=lambda i: (-confidence_N[i], i))[:15]
                assert kept & set(of_class) == set(surest)
        said = result["phases"][student]["pseudo_labels"]
        assert said["kept"] == len(kept) and said["of"] == len(candidates)
        right = label_n == truth_N[saved["index"]]
        assert said["kept_accuracy"] == pytest.approx(right.mean())
        assert said["per_class"] == np.bincount(label_n, minlength=10).tolist()
        rows = [r for r in Journal(workdir / "metrics.jsonl").rows() if r["step"] == 0]
        (row,) = [row for row in rows if row["phase"] == student]
        assert row["train/share_kept"] == pytest.approx(said["share_kept"])
        assert row["train/kept_accuracy"] == pytest.approx(said["kept_accuracy"])
        assert row["train/kept_per_class"] == said["per_class"]
        assert row["train/threshold_per_class"] == pytest.approx(
            [config[student].confidence] * 10
        )
        assert 0 < row["train/ece"] < 1
        for figure in ("pseudo_label_counts", "reliability"):
            assert (workdir / f"figures/{student}_{figure}.png").exists()
    assert "pseudo_labels" not in result["phases"]["teacher"]
    # What it is for: what is surest is more often right.
    said = result["phases"]["student1"]["pseudo_labels"]
    assert said["kept_accuracy"] > said["rejected_accuracy"]


def test_the_feed_grants_the_truth_and_else_only_what_the_teacher_says():
    config = _config()
    mesh = core.make_mesh(jax.devices()[:2])
    for place in ("device", "host"):
        config.data.placement = place
        data = tiny.load(config, mesh)
        split, truth_N = data.split, data.dataset.labels_N
        others = np.setdiff1d(split.unlabeled, split.labeled)[:30]
        probs_NK = np.random.default_rng(0).dirichlet(np.ones(10), 30)
        probs_NK = probs_NK.astype(np.float32)
        granted = feeds.granted(data.dataset, split)
        given = feeds.Labels(others, probs_NK.argmax(-1).astype(np.int32), probs_NK)
        labels = feeds.Labels(*map(np.concatenate, zip(granted, given, strict=True)))
        phase = tiny.phase(config, "student1", data, mesh, labels)
        of_image = {
            data.dataset.images_NHWC[index].tobytes(): (index, label, probs_K)
            for index, label, probs_K in zip(*labels, strict=True)
        }
        seen = set()
        steps = 6 * len(labels.index_N) // 16  # several epochs
        for item in phase.feed.items(0, steps):
            batch = phase.feed.batch(phase.feed.arrays, program.at(item, 0))
            batch = jax.device_get(batch)
            assert set(batch) == {"image", "label", "label_probs", "index"}
            assert batch["label_probs"].dtype == np.float32
            for image, label, probs_K in zip(
                *(batch[name] for name in ("image", "label", "label_probs")),
                strict=True,
            ):
                index, expected, expected_K = of_image[image.tobytes()]
                assert label == expected
                np.testing.assert_array_equal(probs_K, expected_K)
                if index in split.labeled:
                    assert label == truth_N[index] and probs_K[label] == 1
                seen.add(int(index))
        assert seen == {*split.labeled.tolist(), *others.tolist()}
    # And only a phase with labels_from has soft labels.
    teacher = tiny.phase(config, "teacher", data, mesh)
    batch = teacher.feed.batch(
        teacher.feed.arrays, program.at(program.first_item(teacher), 0)
    )
    assert set(batch) == {"image", "label", "index"}


def test_false_truths_of_unlabeled_images_change_no_student(
    calm, tmp_path, monkeypatch
):
    config, workdir, result = calm
    load = loading.load

    def load_false(wanted, mesh, **given):
        data = load(wanted, mesh, **given)
        truth_N = np.asarray(data.dataset.labels_N)
        granted_N = np.isin(np.arange(len(truth_N)), data.split.labeled)
        false_N = np.where(granted_N, truth_N, (truth_N + 1) % 10).astype(np.int32)
        dataset = data.dataset._replace(labels_N=false_N)
        return data._replace(
            dataset=dataset, pool=placement.place(dataset, wanted.placement, mesh)
        )

    monkeypatch.setattr(loading, "load", load_false)
    # Or it would be told.
    monkeypatch.setattr(Workdir, "changes", lambda *_, **given: [])
    _without(workdir, tmp_path / "other", *PHASES[1:])
    other = run(config, tmp_path / "other", devices=ONE)
    for phase in PHASES[1:]:
        assert _sum(workdir, phase) == _sum(tmp_path / "other", phase)
    said, other_said = (
        r["phases"]["student1"]["pseudo_labels"] for r in (result, other)
    )
    assert said["kept"] == other_said["kept"]
    assert said["kept_accuracy"] != other_said["kept_accuracy"]  # it is only counted


def test_a_student_stopped_in_the_middle_ends_the_same(calm, tmp_path, monkeypatch):
    config, workdir, _ = calm
    other = tmp_path / "other"
    update = loop.Progress.at

    def interrupted(progress, step):
        update(progress, step)
        if (progress._phase, step) == ("student2", 5):  # between checkpoints
            signal.raise_signal(signal.SIGTERM)

    _without(workdir, other, "student2")
    with monkeypatch.context() as patched:
        patched.setattr(loop.Progress, "at", interrupted)
        assert run(config, other, devices=ONE) is None
    assert (other / "student2" / "checkpoints" / "5").exists()

    # It goes on by what was written: the teacher could no longer be asked.
    shutil.move(other / "student1" / "checkpoints", other / "elsewhere")
    again = run(config, other, devices=ONE)
    shutil.move(other / "elsewhere", other / "student1" / "checkpoints")
    assert again["resumed"] == 2
    assert kill_resume.compare(workdir, other) == []  # and what result.json says of it

    # Killed before a checkpoint, but after the labels were written.
    for path in ("result.json", "student2/done.json"):
        (other / path).unlink()
    shutil.rmtree(other / "student2" / "checkpoints")
    run(config, other, devices=ONE)
    assert kill_resume.compare(workdir, other) == []


def test_labels_that_cannot_be_had_are_told(calm, tmp_path):
    config, workdir, _ = calm

    def left_without_second_round(name):
        shutil.copytree(workdir, tmp_path / name)
        for file in ("result.json", "student2/done.json"):
            (tmp_path / name / file).unlink()
        return tmp_path / name

    file = left_without_second_round("short") / "student2" / "pseudo_labels.npz"
    file.write_bytes(file.read_bytes()[:-99])
    with pytest.raises(UserError, match=r"pseudo_labels.npz cannot be read .*delete"):
        run(config, tmp_path / "short", devices=ONE)

    file = left_without_second_round("other") / "student2" / "pseudo_labels.npz"
    arrays = dict(np.load(file))
    np.savez(file, **(arrays | {"all_index": arrays["all_index"] + 1}))
    with pytest.raises(UserError, match="labels other images than the run has"):
        run(config, tmp_path / "other", devices=ONE)

    _without(workdir, tmp_path / "without", "student2", "student1/checkpoints/8")
    with pytest.raises(UserError, match=r"trained for 8 steps, but has no .*delete"):
        run(config, tmp_path / "without", devices=ONE)


def test_a_round_that_keeps_nothing_names_the_threshold_and_the_highest(
    tmp_path, monkeypatch
):
    config, mesh = _config(), core.make_mesh(ONE)
    data = tiny.load(config, mesh)
    teacher, student = (tiny.phase(config, name, data, mesh) for name in PHASES[:2])
    probs_NK = np.full((1_277, 10), 0.05, np.float32)
    probs_NK[:, 7] = 0.55
    monkeypatch.setattr(restored, "on_images", lambda *_: lambda *_: probs_NK)
    with pytest.raises(
        UserError,
        match=r"student1.confidence=0.6: of 1,277 .*its highest confidence is 0.55\.",
    ):
        self_training.teach(student, teacher, data, Workdir(tmp_path))
    assert not any(tmp_path.iterdir())


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    for change, message in (
        ({"student1.labels_from": "student2"}, r"'student2' must be .*\(teacher\)"),
        ({"teacher.labels_from": "teacher"}, "there is none"),
        ({"phases": ("student2",)}, "'student1' must be a phase that `phases` has"),
        ({"student1.confidence": 1.5}, r"student1.confidence=1.5 must be in \[0, 1\]"),
        ({"student1.per_class": -1}, "per_class=-1 must be at least 0"),
        ({"student1.labels_from": ""}, "confidence=0.6 chooses among pseudo-labels"),
        ({"teacher.per_class": 3}, "per_class=3 chooses among pseudo-labels"),
        ({"teacher.rarer_first": 0.3}, "rarer_first=0.3 chooses among pseudo-labels"),
        ({"data.num_labels": 0}, "has nothing to label: all 1,297 unlabeled"),
    ):
        config = _config()
        config.update_from_flattened_dict(change)
        with pytest.raises(UserError, match=message):
            run(config, tmp_path / "run")
    for algorithm, where, message in (
        ("autoencoder.Autoencoder", "teacher", "trains a classifier .there is none"),
        (
            "byol.BYOL",
            "student1",
            "BYOL, which does not draw its images",
        ),
    ):
        config = _config()
        steps = config[where].steps
        config[where] = tiny.config(algorithm).train
        config[where].steps = steps
        if where == "student1":
            config.student1.labels_from = "teacher"
        with pytest.raises(UserError, match=message):
            run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_mnist_configs_are_the_tutorial_and_a_fair_comparison():
    config = pseudo_label_mnist.get_config()
    kept = round(0.94 * 54_000)
    for phase, images in (("teacher", 6_000), ("student", 6_000 + kept)):
        section = config[phase]
        assert abs(section.steps * section.batch_size - 10 * images) < 100  # epochs
        assert section.steps % section.eval_every == 0
    strong = pseudo_label_mnist.get_config("strong")
    floor, train = strong.supervised.to_dict(), strong.train.to_dict()
    assert {name for name in floor if floor[name] != train[name]} == {
        *("labels_from", "confidence"),
    }
