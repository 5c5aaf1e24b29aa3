"""Settings follow from the data, whatever these are, and are said; those set stay."""

import dataclasses
import json

import jax
import pytest
from photos import fill, save

from configs import auto, base
from ssl_jax import core
from ssl_jax.cli import predict
from ssl_jax.data import sources
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, phases, program, sections
from ssl_jax.train.run import run
from ssl_jax.workdir import settings
from ssl_jax.workdir.workdir import Workdir

ONE = jax.devices()[:1]
TEN_EACH = adapted.Facts(
    labels=(10,) * 5,
    drawn=(10,) * 5,
    images=550,
    unlabeled=550,
    hidden=500,
    validation=0,
    side=32,
    devices=2,
    accelerated=False,
)


def settled(change=(), **facts):
    """(the configuration with what auto settles, parsed; what it says)."""
    tree = sections.changed(auto.get_config().to_dict(), dict(change))
    facts = dataclasses.replace(TEN_EACH, **facts)
    values, said = adapted.settings(facts, sections.parse(tree))
    tree = sections.changed(tree, values)
    return sections.parse(tree, facts.devices), "\n".join(said)


def sizes(run):
    return {
        name: (section.batch_size, section.unlabeled_ratio)
        for name, section in run.trained.items()
    }


def test_forty_labels_a_class_are_as_the_config_has_them_but_for_what_validates():
    run, said = settled(labels=(40,) * 5, drawn=(40,) * 5)
    assert run.data.num_validation == 40
    assert sizes(run) == {"supervised": (16, 0), "semi_supervised": (16, 2)}
    assert all(section.loss_patience for section in run.trained.values())
    assert "8 of each class's labels validate, 40 in all" in said
    assert "supervised takes 16 images a step, and 600 steps at most" in said
    assert "semi_supervised takes 16 + 2 x 16 unlabeled images a step" in said
    assert "1,000 steps at most" in said


@pytest.mark.parametrize(
    ("facts", "semi", "said"),
    [
        # Fewer unlabeled images than mu B, then than B; the devices divide them.
        ({"unlabeled": 25, "images": 25}, (16, 1), "16 + 1 x 16 unlabeled"),
        ({"unlabeled": 11, "images": 11}, (10, 1), "10 + 1 x 10 unlabeled"),
        ({"unlabeled": 7, "devices": 8, "images": 7}, None, "without semi_superv"),
        ({"hidden": 0}, None, "without semi_supervised: 0 images have no label"),
        ({"devices": 3}, (18, 2), "supervised takes 18 images"),
        (
            {"accelerated": True, "images": 1_000, "unlabeled": 1_000},
            (64, 2),
            "wide_resnet learns, on an accelerator",
        ),
    ],
)
def test_batches_are_what_the_images_and_devices_allow(facts, semi, said):
    run, told = settled(**facts)
    assert sizes(run).get("semi_supervised") == semi
    assert said in told


@pytest.mark.parametrize(
    ("labels", "change", "held_out", "said"),
    [
        ((2, 2, 2), {}, 0, "a class has 2 labels, and of each 5 one would"),
        ((500, 3), {}, 0, "a class has 3 labels"),
        ((5, 9), {}, 0, "of 5 labels of a class 1 would, and 2 in all are fewer"),
        ((10,) * 5, {}, 0, "of 10 labels of a class 2 would, and 10 in all are fewer"),
        ((50, 90), {}, 20, "10 of each class's labels validate"),
        ((9_000, 8_000), {}, 1_000, "500 of each class's labels validate"),
        ((10,) * 5, {"data.num_labels": 50}, 0, "data.num_labels=50 are to learn"),
    ],
)
def test_a_fifth_of_each_classs_labels_validates_where_that_says_something(
    labels, change, held_out, said
):
    run, told = settled(change, labels=labels, drawn=labels)
    assert run.data.num_validation == held_out
    assert said in told
    for section in run.trained.values():
        assert bool(section.loss_patience) == bool(held_out)


def test_small_piles_have_small_networks_and_few_steps():
    run, said = settled(images=20, unlabeled=20, side=8)
    assert run.model.hparams["filters"] == (16, 32, 64)
    assert run.model.hparams["stem_stride"] == 1
    assert "there are 20 images, and they have 8 pixels a side" in said
    for section, steps in zip(run.trained.values(), (200, 400), strict=True):
        assert section.steps == steps and section.augment["shift"] == 1
    assert settled()[0].model.hparams["filters"] == (32, 64, 128)


def test_what_is_set_stays_and_is_not_told_of():
    change = {
        "data.num_validation": 5,
        "model": base.model("mlp", features=(8,)).to_dict(),
        "semi_supervised.steps": 40,
        "semi_supervised.unlabeled_ratio": 1,
    }
    run, said = settled(change, validation=5, images=20, unlabeled=20)
    assert (run.data.num_validation, run.model.name) == (5, "mlp")
    semi = run.trained["semi_supervised"]
    assert (semi.steps, semi.unlabeled_ratio, semi.batch_size) == (40, 1, 16)
    assert run.config["semi_supervised"]["optimizer"]["warmup_steps"] == 4
    assert "validate" not in said and "network" not in said


def _config(root):
    """Auto's, in which nothing takes long; batches, what validates and phases are left
    to the data."""
    config = auto.get_config()
    config.tensorboard = False
    config.data.update(dir=str(root), image_size=8)
    config.model = base.model("mlp", features=(8,))
    for name in config.phases:
        config[name].augment.strong = "none"
        config[name].update(steps=2, eval_every=1)
    return config


@pytest.fixture
def twenty(tmp_path, monkeypatch):
    """Two labels a class, 20 images in all, of many sizes, some grey."""
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    fill(root, "cat/0.png", "cat/1.jpg", "dog/0.png", "dog/1.jpg", size=(9, 12))
    for i in range(16):
        mode = "L" if i % 3 else "RGB"
        save(root / f"unlabeled/{i}.png", i, size=(8 + i, 20 - i), mode=mode)
    return root


def test_twenty_images_train_predict_and_go_on_as_they_began(
    twenty, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(Workdir, "draw", lambda *_: None)  # which takes long
    config, path, mesh = _config(twenty), tmp_path / "run", core.make_mesh(ONE)
    result = run(config, path, ONE)
    assert list(result["phases"]) == ["supervised", "semi_supervised"]
    assert result["data"]["unlabeled"] == 16
    said = capfd.readouterr().err
    assert "auto: semi_supervised takes 16 + 1 x 16 unlabeled images a step" in said
    trained = settings.of_run(path)
    assert trained["semi_supervised"]["unlabeled_ratio"] == 1
    trained["predict"]["dir"] = str(twenty)
    predict.write(trained, path)
    assert len((path / "predictions.csv").read_text().splitlines()) == 1 + 20

    # The pile grows: a new run has other settings, this one those that it began with.
    for i in range(60):
        save(twenty / f"unlabeled/later{i}.png", i)
    again, _ = adapted.to_data(config, path, mesh)
    there = json.loads((path / "config.json").read_text())["config"]
    assert settings.plain(again) == there
    other, _ = adapted.to_data(config, tmp_path / "other", mesh)
    assert other["semi_supervised"]["unlabeled_ratio"] == 2
    # And another setting is refused as ever.
    config.semi_supervised.unlabeled_ratio = 3
    with pytest.raises(UserError, match="semi_supervised.unlabeled_ratio = 1 there"):
        run(config, path, ONE)


def _built(config, devices):
    """Its phases, and what each is sent first: all but the training."""
    mesh = core.make_mesh(jax.devices()[:devices])
    config, _ = adapted.to_data(config, "nowhere", mesh)
    built = {}
    for name in config["phases"]:
        built[name], data = phases.prepared(config, name, mesh)
        program.first_item(built[name])
    return built, data


@pytest.mark.parametrize("devices", [1, 4])
def test_a_class_of_five_hundred_and_one_of_three(tmp_path, monkeypatch, devices):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    fill(root, *(f"many/{i}.png" for i in range(500)), size=(4, 4))
    fill(root, *(f"few/{i}.png" for i in range(3)), "unlabeled/0.png", size=(5, 7))
    built, data = _built(_config(root), devices)
    assert list(built) == ["supervised", "semi_supervised"]
    assert len(data.split.labeled) == 503 and not len(data.split.validation)


def test_four_images_on_four_devices_and_images_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    fill(root, "a/0.png", "b/0.png", "unlabeled/0.png")
    assert list(_built(_config(root), 4)[0]) == ["supervised"]  # three do not divide
    config = auto.get_config()
    config.data.update(name="digits", image_size=0, num_labels=20)
    built, data = _built(config, 4)
    assert built["semi_supervised"].section.augment["shift"] == 1
    assert len(data.split.labeled) == 20


def test_facts_are_of_the_data_as_they_are_split(twenty):
    config = _config(twenty)
    labels = twenty.parent / "labels.csv"
    labels.write_text("image,label\nunlabeled/3.png,cat\nunlabeled/4.png,dog\n")
    config.data.labels = str(labels)
    wanted = sections.parse(config)
    mesh = core.make_mesh(jax.devices()[:2])
    assert adapted.of_data(wanted, sources.read(wanted.data), mesh) == adapted.Facts(
        labels=(3, 3),
        drawn=(2, 2),  # no answer is held out
        images=20,
        unlabeled=20,
        hidden=14,
        validation=0,
        side=8,
        devices=2,
        accelerated=False,
    )


def test_other_configs_are_left_alone(tmp_path):
    config = base.run("x")
    assert adapted.to_data(config, tmp_path, core.make_mesh(ONE)) == (config, None)
