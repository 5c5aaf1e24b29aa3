"""A finished run's workdir, copied alone to where there is no data: all that is asked
of it there is what the run itself said."""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from importlib import metadata

import jax
import numpy as np
import pytest
import safetensors.numpy
from absl.flags import DEFINE_string, FlagValues
from photos import fill

import ssl_jax
import tiny
from configs import base, folder
from launching import ROOT, assert_one_message
from ssl_jax import algorithms
from ssl_jax.cli import command_line, embed, export, modes, predict
from ssl_jax.errors import UserError
from ssl_jax.train import classifier, exported, loop, restored, sections
from ssl_jax.workdir import settings
from ssl_jax.workdir.workdir import Workdir

CLASSES = ("cat", "dog, wet", "été")


def own_config(photos):
    config = folder.get_config("supervised")
    config.tensorboard = False
    config.data.update(dir=str(photos), image_size=8)
    config.model = base.model("convnet", filters=(4,), stem_stride=2)
    config.train.update(steps=4, batch_size=4)
    config.train.update(log_every=2, eval_every=2, checkpoint_every=2)
    config.train.augment.update(strong="none", flip=False, shift=1)
    return config


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """(workdir of a run whose photos are gone, its test images, what the run says of
    them, the result)."""
    home = tmp_path_factory.mktemp("home")
    for c, name in enumerate(CLASSES):
        fill(home / "photos" / name, *(f"{i}.png" for i in range(3)), size=(9, 12 + c))
        fill(home / "photos/test" / name, *(f"{i}.jpg" for i in range(2)), size=(20, 9))
    config = own_config(home / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_JAX_CACHE", str(home / "cache"))
        patch.setattr(loop, "show", lambda *_: None)  # figures take seconds
        result = modes.run(config, home / "w", jax.devices()[:1])
        trained = restored.load(sections.parse(config), Workdir(home / "w"))
    images_MHWC = np.array(trained.data.dataset.test_images_MHWC)
    probs_MK = restored.classifier(trained)(images_MHWC)
    away = tmp_path_factory.mktemp("away")
    shutil.copytree(home / "w", away / "w")
    shutil.move(home / "photos/test", away / "test")
    shutil.rmtree(home)
    return away / "w", images_MHWC, probs_MK, result


@pytest.fixture(scope="module")
def asked(left):
    return ssl_jax.load(left[0])


def of_workdir(workdir, **values):
    """As --mode=... --workdir=... takes its configuration."""
    return sections.changed(settings.of_run(workdir), values)


def test_the_workdir_says_what_the_run_said(left, asked):
    workdir, images_MHWC, probs_MK, result = left
    assert isinstance(asked, ssl_jax.Classifier)
    assert asked.class_names == tuple(sorted(CLASSES)) and asked.shape == (8, 8, 3)
    np.testing.assert_allclose(asked.predict_proba(images_MHWC), probs_MK, atol=1e-6)
    right_M = asked.predict(images_MHWC) == np.repeat(sorted(CLASSES), 2)
    assert right_M.mean() == pytest.approx(result["test"]["accuracy"])
    files = [
        workdir.parent / f"test/{c}/{i}.jpg" for c in sorted(CLASSES) for i in "01"
    ]
    np.testing.assert_allclose(asked.predict_proba(files), probs_MK, atol=1e-6)
    np.testing.assert_allclose(
        asked.predict_proba(np.float32(images_MHWC / 255)), probs_MK, atol=1e-6
    )
    one = asked.predict_proba(files[3])
    np.testing.assert_allclose(one, probs_MK[3:4], atol=1e-6)
    features_MD = asked.features(images_MHWC)
    assert features_MD.shape == (6, 4) and features_MD.dtype == np.float32
    head = asked.state.extra["ema"]["head"]
    logits_MK = (
        features_MD @ np.asarray(head["kernel"]) + np.asarray(head["bias"])[None]
    )
    again_MK = np.asarray(jax.nn.softmax(logits_MK))
    np.testing.assert_allclose(again_MK, probs_MK, atol=1e-5)


def test_predict_needs_no_training_data(left, tmp_path, capsys):
    workdir, _, probs_MK, result = left
    out = tmp_path / "said.csv"
    values = {"predict.dir": str(workdir.parent / "test"), "predict.out": str(out)}
    predict.write(of_workdir(workdir, **values), workdir)
    with out.open(newline="") as file:
        _, *rows = csv.reader(file)
    names = [f"{name}/{i}.jpg" for name in sorted(CLASSES) for i in "01"]
    assert [row[0] for row in rows] == names
    said_MK = np.float32([row[2:5] for row in rows])
    np.testing.assert_allclose(said_MK, probs_MK, atol=1e-6)
    accuracy = f"accuracy {result['test']['accuracy']:.2%} on the 6 images"
    assert accuracy in capsys.readouterr().out


def test_embed_has_features_with_their_names(left, asked, tmp_path, capsys, caplog):
    workdir, images_MHWC, _, _ = left
    photos = tmp_path / "photos"
    shutil.copytree(workdir.parent / "test", photos)
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    config = of_workdir(workdir, **{"predict.dir": str(photos)})
    for _ in range(2):
        embed.write(config, workdir)
    with np.load(workdir / "features_2.npz") as arrays:
        names, features_MD = arrays["names"], arrays["features"]
    assert list(names) == [f"{c}/{i}.jpg" for c in sorted(CLASSES) for i in "01"]
    np.testing.assert_allclose(features_MD, asked.features(images_MHWC), atol=1e-6)
    out = capsys.readouterr().out
    assert "6 images, 4 features each by the phase 'train' (supervised.Superv" in out
    assert out.endswith(f"{workdir / 'features_2.npz'}\n") and "broken" in caplog.text
    (tmp_path / "mine.npz").write_text("mine")
    for out, said in (
        ("mine.npz", "mine.npz' is there, and holds no features: give another name"),
        ("mine.npz/f", "mine.npz/f cannot be written .*give the name of another"),
        (".", "cannot be written .Is a directory"),
    ):
        config["predict"]["out"] = str(tmp_path / out)
        with pytest.raises(UserError, match=said):
            embed.write(config, workdir)
    assert (tmp_path / "mine.npz").read_text() == "mine"


def test_the_lines_of_the_manual_run(left, tmp_path, monkeypatch):
    workdir, images_BHWC, _, _ = left
    (tmp_path / "second").symlink_to(workdir)
    fill(tmp_path, "new.jpg", "a.jpg", "b.png", size=(30, 20))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/your_images.md").read_text().partition("## Elsewhere")[2]
    names = {"images_BHWC": images_BHWC}
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], names)
    assert names["classifier"].class_names == tuple(sorted(CLASSES))


# What `pip install jax numpy` brings.
JAX_ALONE = ("jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy")


@pytest.fixture(scope="module")
def jax_alone(tmp_path_factory):
    """A folder to import from that has JAX, what it declares, and nothing else."""
    folder = tmp_path_factory.mktemp("jax_alone")
    for name in JAX_ALONE:
        for top in {file.parts[0] for file in metadata.files(name)} - {"..", "bin"}:
            (folder / top).symlink_to(metadata.distribution(name).locate_file(top))
    return folder


def test_the_exported_file_runs_where_there_is_nothing_but_jax(
    left, tmp_path, jax_alone, capsys
):
    workdir, images_MHWC, probs_MK, _ = left
    file = tmp_path / "to/cats.zip"
    for _ in range(2):  # its own files are replaced
        export.write(of_workdir(workdir, **{"predict.out": str(file)}), workdir)
    assert capsys.readouterr().out.endswith(f"{file}\n{file.with_suffix('.py')}\n")
    np.save(tmp_path / "images.npy", images_MHWC)
    forbidden = "import ssl_jax", "import flax", "import flatbuffers"
    python = [sys.executable, "-S"]
    env = {"PYTHONPATH": str(jax_alone), "JAX_PLATFORMS": "cpu", "PYTHONUTF8": "1"}
    alone = dict(cwd="/", env=env)  # and not where ssl_jax lies
    for line in forbidden:
        none = subprocess.run([*python, "-c", line], stderr=subprocess.DEVNULL, **alone)
        assert none.returncode, line
    said = subprocess.run(
        [*python, file.with_suffix(".py"), tmp_path / "images.npy"],
        capture_output=True,
        text=True,
        **alone,
    )
    assert said.returncode == 0, said.stderr
    rows = [line.split("\t") for line in said.stdout.splitlines()]
    again_MK = np.float32([row[1:] for row in rows])
    np.testing.assert_allclose(again_MK, probs_MK, atol=1e-5)
    assert [row[0] for row in rows] == [sorted(CLASSES)[k] for k in probs_MK.argmax(1)]


def test_the_exported_program_is_for_cpu_and_cuda_and_any_number_of_images(asked):
    program = jax.export.deserialize(bytearray(exported.program(asked)))
    assert program.platforms == ("cpu", "cuda") and program.nr_devices == 1
    assert [str(aval) for aval in program.in_avals] == ["uint8[B,8,8,3]"]
    assert [str(aval) for aval in program.out_avals] == ["float32[B,3]"]


def test_an_encoder_for_pytorch_is_the_one_that_is_judged(left, asked, tmp_path):
    workdir, images_MHWC, _, _ = left
    file = tmp_path / "encoder.safetensors"
    export.write(of_workdir(workdir, **{"predict.out": str(file)}), workdir)
    tensors = safetensors.numpy.load_file(file)
    layout = json.loads(file.with_suffix(".json").read_text())
    assert layout["tensors"].keys() == tensors.keys() and layout["features"] == 4
    for name, of in layout["tensors"].items():
        assert list(tensors[name].shape) == of["shape"]
        assert sorted(of["torch"]) == list(range(len(of["axes"])))
    kernel = layout["tensors"]["Conv_0.kernel"]
    assert [kernel["axes"][i] for i in kernel["torch"]] == [
        *("out", "in", "height", "width")
    ]
    assert tensors["Conv_0.kernel"].shape == (3, 3, 3, 4)
    assert layout["input"]["shape"] == [8, 8, 3] and len(layout["input"]["mean"]) == 3
    # It says the same where there is no run.
    values = {"model.weights": str(file), "data.image_size": 0}
    values["predict.dir"] = str(workdir.parent / "test")
    embed.write(of_workdir(workdir, **values), tmp_path)
    again_MD = np.load(tmp_path / "features.npz")["features"]
    np.testing.assert_allclose(again_MD, asked.features(images_MHWC), atol=1e-5)


def test_an_export_that_cannot_be_is_refused(left, asked, tmp_path):
    workdir, *_ = left
    (tmp_path / "mine.py").write_text("mine")
    for out, said in (
        (
            "model.onnx",
            r"model.onnx': --mode=export writes a .zip, .* or a .safetensor",
        ),
        ("mine.zip", "mine.py' is there, and holds no export of ssl_jax's"),
        ("mine.py/a.zip", "mine.py/a.zip cannot be written"),
    ):
        config = of_workdir(workdir, **{"predict.out": str(tmp_path / out)})
        with pytest.raises(UserError, match=said):
            export.write(config, workdir)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    graph = algorithms.build(
        "label_spreading.LabelSpreading", {}, num_classes=3, num_labeled=1
    )
    spreading = dataclasses.replace(asked, algorithm=graph, method="label_spreading")
    with pytest.raises(UserError, match="label_spreading has no network to export"):
        exported.program(spreading)
    with pytest.raises(UserError, match="label_spreading has no encoder to export"):
        exported.encoder(spreading)
    silent = dataclasses.replace(asked, said={}, method="autoencoder.Autoencoder")
    with pytest.raises(UserError, match="classifies no .*its encoder into a .safetens"):
        exported.program(silent)


def changed_copy(workdir, to, **values):
    """The workdir with other values in its config.json."""
    shutil.copytree(workdir, to)
    saved = json.loads((to / settings.CONFIG).read_text())
    saved["config"] = sections.changed(saved["config"], values)
    (to / settings.CONFIG).write_text(json.dumps(saved))
    return to


def test_what_is_no_finished_run_of_images_is_refused(left, tmp_path):
    workdir, *_ = left
    with pytest.raises(UserError, match="nowhere' is no run's workdir: it has no conf"):
        ssl_jax.load(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"phase='pretrain': of the run in .* are train"
    ):
        ssl_jax.load(workdir, phase="pretrain")
    killed = tmp_path / "killed"
    shutil.copytree(workdir, killed)
    (killed / "train/done.json").unlink()
    with pytest.raises(
        UserError, match="'train' in .*killed is not trained to its end"
    ):
        ssl_jax.load(killed)
    old = tmp_path / "old"
    shutil.copytree(workdir, old)
    (old / "inventory.json").unlink()
    with pytest.raises(UserError, match="old has no inventory.json.*train it again"):
        ssl_jax.load(old)
    many = changed_copy(workdir, tmp_path / "many", num_seeds=3)
    with pytest.raises(UserError, match="3 seeds in .*many were trained at once"):
        ssl_jax.load(many)
    other = of_workdir(
        workdir, **{"model.filters": (4, 8), "predict.dir": str(workdir)}
    )
    with pytest.raises(UserError, match="model.filters = .* there, .* here"):
        classifier.of_run(sections.parse(other, to_train=False), Workdir(workdir))


def without(config, fields):
    """The configuration without those, each "section.field"."""
    left = dict(config)
    for field in fields:
        head, _, rest = field.partition(".")
        if rest:
            left[head] = without(left[head], [rest])
        else:
            del left[head]
    return left


SINCE = (  # what may have come after a run
    *("policy", "adapt", "tune", "ablate", "data.class_folders", "predict.out"),
    *(
        "model.bn_warmup",
        "model.dropout",
        "train.loss_gain",
        "train.algorithm.label_smoothing",
    ),
    *("train.augment.scale_to", "train.optimizer.clip_lr"),
    *("train.algorithm.mixup_alpha", "train.algorithm.cutmix_alpha"),
)


def test_a_run_by_an_older_version_is_asked_and_not_gone_on_with(
    left, tmp_path, capsys
):
    workdir, images_MHWC, probs_MK, _ = left
    now = settings.of_run(workdir)
    old = shutil.copytree(workdir, tmp_path / "old")
    saved = json.loads((old / settings.CONFIG).read_text())
    saved["config"] = without(saved["config"], SINCE)
    (old / settings.CONFIG).write_text(json.dumps(saved))
    asked = ssl_jax.load(old)
    np.testing.assert_array_equal(asked.predict_proba(images_MHWC), probs_MK)
    said = capsys.readouterr().err
    assert "an older version" in said and ": ablate, data.class_folders, m" in said
    flags = FlagValues()
    for name, default in (("config", None), ("workdir", ""), ("mode", "train")):
        DEFINE_string(name, default, "", flag_values=flags)
    out = str(tmp_path / "said.csv")
    given = ["--mode=predict", f"--workdir={old}", f"--config.predict.out={out}"]
    config = command_line.parse(flags, ["launch.py", *given], modes.OF_A_RUN)
    assert config.to_dict() == sections.changed(now, {"predict.out": out})
    given = ["--mode=query", f"--workdir={old}"]
    config = command_line.parse(flags, ["launch.py", *given], modes.OF_A_RUN)
    with pytest.raises(UserError, match="policy: .* by another version"):
        sections.parse(config, to_train=False)
    with pytest.raises(UserError, match="train.loss_gain = absent there, 0.0 here"):
        modes.run(now, old, jax.devices()[:1])


def test_a_launch_that_cannot_ends_with_one_message(launch, left, tmp_path):
    for workdir, flags, said in (
        (tmp_path, ["--mode=export"], "is no run's workdir: it has no config.json"),
        (left[0], ["--mode=export", "--config.predict.out=/proc/a.zip"], "be written"),
    ):
        status, _, err = launch(f"--workdir={workdir}", *flags)
        assert_one_message(status, err, said)


def test_a_graph_has_no_images_to_ask_about(tmp_path):
    config = tiny.config("gcn.GCN")
    run = sections.parse(config)
    with pytest.raises(
        UserError, match="w knows no images: gcn.GCN learned from a gra"
    ):
        classifier.of_run(run, Workdir(tmp_path / "w"))


def test_what_a_phase_cannot_say(asked):
    without = dataclasses.replace(asked, said={}, method="autoencoder.Autoencoder")
    with pytest.raises(
        UserError, match="classifies no images: autoencoder.Autoencoder"
    ):
        without.predict(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="autoencoder.Autoencoder learns no features"):
        without.features(np.zeros((8, 8, 3), np.uint8))
    unlabeled = dataclasses.replace(asked, said={}, class_names=())
    with pytest.raises(UserError, match="w has a label, so that it knows no class"):
        unlabeled.predict(np.zeros((8, 8, 3), np.uint8))


def test_the_last_phase_that_classifies_is_asked_or_the_one_that_is_named(tmp_path):
    encode = base.phase(base.algorithm("autoencoder.Autoencoder"))
    classify = base.phase(base.algorithm("supervised.Supervised"))
    again = base.phase(base.algorithm("autoencoder.Autoencoder"))
    run = base.run("chain", encode=encode, classify=classify, again=again)
    run, workdir = sections.parse(run), Workdir(tmp_path / "w")
    for phase, called in (("", "classify"), ("encode", "encode"), ("again", "again")):
        with pytest.raises(UserError, match=f"phase '{called}' in .* not trained"):
            classifier.of_run(run, workdir, phase)


def test_doors_are_imported_when_they_are_asked_for():
    assert {"Classifier", "load"} <= set(dir(ssl_jax))
    with pytest.raises(AttributeError, match="ssl_jax' has no attribute 'nope'"):
        _ = ssl_jax.nope
