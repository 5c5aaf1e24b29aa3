"""A probe as a phase and as a mode: what it leaves, and what it says when it cannot."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import tiny
from configs import base, byol_digits
from launching import assert_one_message
from ssl_jax import core
from ssl_jax.cli import modes
from ssl_jax.errors import UserError
from ssl_jax.evaluate import batches, protocol
from ssl_jax.train import probing, program, sections
from ssl_jax.train.run import run
from ssl_jax.workdir.workdir import Workdir
from stl10_files import write_stl10

ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """(config, workdir, result): BYOL of four steps, and a probe with all there is."""
    config = byol_digits.get_config("debug")
    config.phases = ("pretrain", "probe")
    config.probe.update(baselines=("random", "pixels"), map_images=40)
    workdir = tmp_path_factory.mktemp("probe") / "run"
    return config, workdir, run(config, workdir, devices=ONE)


def test_a_probe_phase_judges_what_was_learned_beside_its_baselines(probed):
    _, workdir, result = probed
    assert list(result["probe"]) == ["learned", "random", "pixels"]
    for scores in result["probe"].values():
        assert list(scores) == ["knn_5", "knn_200", "sgd", "logistic"]
        assert all(0 <= score["accuracy"] <= 1 for score in scores.values())
        assert scores["logistic"]["converged"]
    assert result["probe"]["learned"] != result["probe"]["random"]
    # 20 labels, seen or not: digits' pixels tell them from chance by far.
    assert result["probe"]["pixels"]["logistic"]["accuracy"] > 0.4
    phase = result["phases"]["probe"]
    assert (phase["phase"], phase["step"], phase["labels"]) == ("pretrain", 4, 20)
    assert (
        result["test"]["accuracy"]
        == (result["probe"]["learned"]["logistic"]["accuracy"])
    )
    drawn = {path.name for path in (workdir / "figures").glob("*.png")}
    assert {"probe_feature_map.png", "probe_neighbors.png"} <= drawn
    assert {"pretrain_representation.png", "pretrain_views.png"} <= drawn


def test_the_journal_has_knn_rank_and_held_out_loss(probed):
    _, workdir, _ = probed
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert {
        *("train/objective", "train/projection_std"),
        *("test/objective", "test/knn_accuracy", "test/effective_rank"),
        "test/accuracy",  # the online probe's
    } <= set(last)


def test_features_are_extracted_once_each_without_padding(probed):
    config, _, _ = probed
    mesh = core.make_mesh(jax.devices()[:4])
    data = tiny.load(config, mesh)
    phase = tiny.phase(config, "pretrain", data, mesh)
    with jax.set_mesh(mesh):
        state = program.initialise(phase)
    extract = batches.compile_features(phase.algorithm, mesh)
    features_ND, labels_N = extract(state, probing.labeled_batches(data, phase))
    np.testing.assert_array_equal(labels_N, data.dataset.labels_N[data.split.labeled])
    images = data.dataset.images_NHWC[data.split.labeled]
    expected_ND = phase.algorithm.features(state, {"image": images})
    np.testing.assert_allclose(features_ND, expected_ND, atol=1e-5)


def test_neighbours_are_the_images_whose_label_was_granted(monkeypatch):
    """By pixels, against scikit-learn's."""
    config = tiny.config("byol.BYOL")
    data = tiny.load(config, core.make_mesh(ONE))

    def pixels(state, of):
        return protocol.pixels(of)

    monkeypatch.setattr(probing, "compile_features", lambda *_: pixels)
    phase = SimpleNamespace(
        algorithm=None, mesh=core.make_mesh(ONE), section=SimpleNamespace(knn=5)
    )
    found = probing.compile_knn(phase, data)(None).compute()
    dataset, labeled = data.dataset, data.split.labeled
    flat = dataset.images_NHWC[labeled].reshape(len(labeled), -1) / 255
    expected = KNeighborsClassifier(5).fit(flat, dataset.labels_N[labeled])
    test_MD = dataset.test_images_MHWC.reshape(len(dataset.test_labels_M), -1) / 255
    score = expected.score(test_MD, dataset.test_labels_M)
    assert found == pytest.approx(score) and 0.2 < score < 0.8


def test_the_mode_finds_the_configuration_in_the_workdir(probed, launch, tmp_path):
    _, workdir, result = probed
    shutil.copytree(workdir, tmp_path / "w")
    (tmp_path / "w/result.json").unlink()  # as of a run that goes on
    before = (tmp_path / "w/config.json").read_bytes()
    status, out, err = launch(
        "--mode=probe",
        f"--workdir={tmp_path / 'w'}",
        "--config.probe.baselines=pixels",
    )
    assert status == 0, err
    assert "pretrain at step 4, 20 labels" in out and "| learned |" in out
    assert "| pixels |" in out and "random" not in out
    said = [line for line in err.splitlines() if line.startswith("mode_probe: ")]
    assert said == [
        "mode_probe: features of pretrain at step 4",
        "mode_probe: probes of learned, 1 of 2",
        "mode_probe: probes of pixels, 2 of 2",
    ]
    probed = json.loads((tmp_path / "w/probe.json").read_text())
    for name in ("knn_5", "knn_200", "logistic"):
        assert probed["probe"]["learned"][name]["accuracy"] == pytest.approx(
            result["probe"]["learned"][name]["accuracy"], abs=0.01
        )
    assert (tmp_path / "w/config.json").read_bytes() == before


def test_the_mode_says_what_is_wrong_with_a_workdir(probed, launch, tmp_path):
    _, workdir, _ = probed
    flags = ("--mode=probe", f"--workdir={tmp_path / 'w'}")
    status, _, err = launch(*flags)  # missing
    assert_one_message(status, err, str(tmp_path / "w"), "no run's workdir")
    status, _, err = launch("--mode=probe")
    assert_one_message(status, err, "no run's workdir", "give the --workdir of a run")

    shutil.copytree(workdir, tmp_path / "w")
    saved = (tmp_path / "w/config.json").read_text()
    for text in (saved[:200], '{"mine": 1}', '{"config": {"x": 1}}', "[]"):
        (tmp_path / "w/config.json").write_text(text)  # truncated, foreign
        status, _, err = launch(*flags)
        assert_one_message(status, err, "config.json cannot be read", "--workdir")

    (tmp_path / "w/config.json").write_text(saved)
    newest = tmp_path / "w/pretrain/checkpoints/4"
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:-500])
    status, _, err = launch(*flags)
    assert status == 2 and "Traceback" not in err, err
    assert f"checkpoint {newest} cannot be read" in err
    assert str(newest.with_name("2")) in err  # the newest readable one

    shutil.rmtree(tmp_path / "w/pretrain")
    status, _, err = launch(*flags)
    assert_one_message(status, err, "has no phase 'pretrain' yet")


def test_the_mode_takes_no_other_network_and_no_other_versions_run(
    probed, launch, tmp_path
):
    """A checkpoint that does not fit must not look like a damaged one."""
    _, workdir, _ = probed
    shutil.copytree(workdir, tmp_path / "w")
    flags = ("--mode=probe", f"--workdir={tmp_path / 'w'}")
    status, _, err = launch(*flags, "--config.model.filters=4,4")
    assert status == 2 and "model.filters = [8, 8] there, [4, 4] here" in err
    status, _, err = launch(*flags, "--config.phases=nope")
    assert_one_message(status, err, "phases names 'nope'")
    saved = json.loads((tmp_path / "w/config.json").read_text())
    del saved["config"]["data"]["num_unlabeled"]
    (tmp_path / "w/config.json").write_text(json.dumps(saved))
    status, _, err = launch(*flags)
    assert_one_message(status, err, "by another version of ssl_jax", "num_unlabeled")


def test_the_mode_goes_by_a_probe_section_that_is_no_phase(probed, tmp_path):
    config, workdir, _ = probed
    shutil.copytree(workdir, tmp_path / "w")
    config = config.copy_and_resolve_references()
    config.phases = ("pretrain",)
    config.probe.update(baselines=("pixels",), map_images=0)
    config.data.num_labels = 100  # its labels may be others than the run's
    modes.probe(config, tmp_path / "w")
    probed = json.loads((tmp_path / "w/probe.json").read_text())
    assert list(probed["probe"]) == ["learned", "pixels"]
    assert probed["labels"] == 100


def test_killed_or_stopped_in_a_probe_the_run_ends_the_same(probed, tmp_path):
    config, workdir, result = probed
    shutil.copytree(workdir, tmp_path / "w")
    (tmp_path / "w/result.json").unlink()
    (tmp_path / "w/probe/done.json").unlink()  # killed before it was written
    again = run(config, tmp_path / "w", devices=ONE)
    assert again["probe"] == result["probe"] and again["resumed"] == 1
    mesh = core.make_mesh(ONE)
    data = tiny.load(config, mesh)
    phase = tiny.phase(config, "pretrain", data, mesh)
    _, probe = sections.parse(config).sections
    args = (probe.protocol, phase, data, Workdir(tmp_path / "w"), "probe")
    assert probing.judge(*args, interrupted=lambda: True) is None


def test_a_crop_larger_than_the_image(launch, tmp_path):
    status, _, err = launch(
        "--config=configs/byol_digits.py:debug",
        "--config.pretrain.augment.side=32",
        f"--workdir={tmp_path / 'w'}",
    )
    found, _, err = err.partition("\n")
    assert found.startswith("10 classes: ")  # told before anything is compiled
    assert_one_message(status, err, "side=32 is larger than the 8x8 images")
    assert not (tmp_path / "w").exists()


def _asked(**changes):
    config = byol_digits.get_config("debug")
    for field, value in changes.items():
        *section, leaf = field.split("__")
        (config[section[0]] if section else config)[leaf] = value
    return config


@pytest.mark.parametrize(
    "config, message",
    [
        (
            _asked(
                phases=("pretrain", "supervised"),
                supervised__start_from="pretrain",
                supervised__keep=("decoder",),
            ),
            r"keep names \['decoder'\], but what 'pretrain' trained has .*'encoder'",
        ),
        (_asked(phases=("probe",)), "there is none.*--mode=probe"),
        (_asked(probe__start_from="finetune"), "earlier phase of this run"),
        (_asked(probe__folds=21), "^probe.folds=21 needs more than 20 labels"),
        (_asked(pretrain__knn=-1), "knn=-1 must be at least 0"),
        (_asked(probe__baselines=("luck",)), "'luck'.*random and pixels"),
        (_asked(pretrain__unlabeled_ratio=2), "unlabeled_ratio=2 must be 0"),
        (
            _asked(pretrain__augment=base.augmentation("weak_strong")),
            "trains on the views 'two_crops', but pretrain.augment is 'weak_strong'",
        ),
        (_asked(pretrain__batch_size=1300), "1300 unlabeled images.*1297"),
    ],
)
def test_what_contradicts_itself_is_told_before_any_training(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run(config, tmp_path / "w", devices=ONE)
    assert not (tmp_path / "w").exists()


def test_byol_stl10_from_its_binary_files(launch, tmp_path):
    """The command that a user types, on a small STL-10 in its original form; only
    steps, batches and the network's width are made small."""
    write_stl10(tmp_path / "stl10")
    small = dict(steps=2, batch_size=8, log_every=1, eval_every=2, checkpoint_every=2)
    flags = [
        f"--config.{phase}.{field}={value}"
        for phase in ("pretrain", "finetune")
        for field, value in small.items()
    ]
    flags += ["--config.pretrain.optimizer.warmup_steps=1", "--config.model.width=4"]
    flags += ["--config.probe.folds=2", "--config.probe.epochs=2"]
    flags += ["--config.probe.l2s=0.1", "--config.probe.map_images=0"]
    flags += ["--config.phases=('pretrain', 'probe', 'finetune')"]  # not the floor
    status, _, err = launch(
        "--config=configs/byol_stl10.py",
        f"--config.data.dir={tmp_path / 'stl10'}",
        f"--workdir={tmp_path / 'w'}",
        "--config.tensorboard=False",
        *flags,
        cwd=tmp_path,
    )
    assert status == 0, err
    result = json.loads((tmp_path / "w/result.json").read_text())
    assert list(result["phases"]) == ["pretrain", "probe", "finetune"]
    assert result["phases"]["probe"]["labels"] == 20
    drawn = {path.name for path in (tmp_path / "w/figures").glob("*.png")}
    assert {"pretrain_views.png", "finetune_learning_curves.png"} <= drawn
