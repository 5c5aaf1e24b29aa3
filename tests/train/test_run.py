"""A run and its data: what it says of them first, and when they have changed."""

import shutil

import jax
import pytest
from PIL import Image

import tiny
from configs import base
from ssl_jax import core
from ssl_jax.active import questions
from ssl_jax.cli import predict
from ssl_jax.errors import UserError
from ssl_jax.train import run, sections

ONE = jax.devices()[:1]


@pytest.mark.parametrize(("num_labels", "warned"), [(0, 1), (40, 0)])
def test_without_unlabeled_images_a_method_says_what_it_is(num_labels, warned, caplog):
    config = tiny.config()
    config.data.num_labels = num_labels
    data = tiny.load(config, core.make_mesh(ONE))
    run.check(sections.parse(config), data)
    said = "train: every unlabeled image is a labeled one, so that fixmatch.FixMatch is"
    assert caplog.text.count(said) == warned


def test_a_process_with_other_data_than_the_first_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run.processes, "of_first", lambda function: "another digest")
    wanted, mesh = (
        sections.parse(tiny.config("supervised.Supervised")),
        core.make_mesh(ONE),
    )
    with pytest.raises(UserError, match="process 0 finds other data, digits, than"):
        with run.entered(wanted, tmp_path / "w", mesh):
            pass
    assert not (tmp_path / "w").exists()


def _config(root, algorithm, **data):
    """A run on the images in `root`, in which nothing takes long."""
    config = tiny.config(algorithm)
    config.model = base.model("mlp", features=(8,))
    config.data.update(name="folder", dir=str(root), num_labels=0, **data)
    config.train.update(batch_size=4, unlabeled_ratio=1)
    config.train.augment.update(weak="none", strong="none")
    config.query.size = 2
    return config


@pytest.fixture
def pile(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    for i in range(8):
        place = ("cat", "dog", "unlabeled", "unlabeled")[i % 4]
        _add(tmp_path / "pile", f"{place}/{i}.png", 30 * i)
    return tmp_path / "pile"


def _add(root, name, level=0):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(root / name)


def _unfinished(workdir):
    """As if it had been killed before its last step."""
    for marker in ("result.json", "train/done.json"):
        (workdir / marker).unlink()
    shutil.rmtree(workdir / "train/checkpoints/4")


def test_a_grown_pile_predicts_and_asks(pile, tmp_path, caplog, capsys):
    """FlexMatch, whose state has something of each unlabeled image."""
    workdir = tmp_path / "w"
    config = _config(pile, "flexmatch.FlexMatch")
    run.run(config, workdir, devices=ONE)
    _add(pile, "unlabeled/new.png", 99)
    _add(pile, "unlabeled/new2.png", 90)
    (pile / "unlabeled/2.png").unlink()
    (pile / "cat/4.png").write_bytes(b"no image any more")
    config.predict.dir = str(pile / "unlabeled")
    predict.write(config, workdir)  # which asks for none of them
    assert "came" not in caplog.text
    assert len((workdir / "predictions.csv").read_text().splitlines()) == 1 + 5
    questions.ask(config, workdir)
    assert "2 images came ('unlabeled/new.png' first); 2 images went" in caplog.text
    asked = (workdir / "queries.csv").read_text()
    assert len(asked.splitlines()) == 3 and "unlabeled/2.png" not in asked
    with pytest.raises(UserError, match=r"(?s)2 images came .*data\.changed=accept"):
        run.run(config, workdir, devices=ONE)
    config.data.changed = "accept"
    assert run.run(config, workdir, devices=ONE)["test"] == {}  # it is over
    assert "is over, of other data: 2 images came" in caplog.text
    _add(pile, "owl/1.png")
    with pytest.raises(UserError, match="the classes are cat, dog, owl, and were cat"):
        questions.ask(config, workdir)
    shutil.rmtree(pile / "owl")
    _unfinished(workdir)
    with pytest.raises(UserError, match="FlexMatch keeps something of each image"):
        run.run(config, workdir, devices=ONE)


def test_a_shrunken_pile_predicts_and_asks_on_any_number_of_devices(
    pile, tmp_path, capsys
):
    """Trained on one device, with 3 labeled and 6 unlabeled images a step; asked on
    all, when fewer are left."""
    workdir = tmp_path / "w"
    config = _config(pile, "fixmatch.FixMatch")
    config.train.update(batch_size=3, unlabeled_ratio=2)
    run.run(config, workdir, devices=ONE)
    for name in ("unlabeled/2.png", "unlabeled/3.png", "unlabeled/6.png"):
        (pile / name).unlink()
    config.predict.dir = str(pile / "unlabeled")
    predict.write(config, workdir)
    assert "1 images labeled" in capsys.readouterr().out
    config.query.size = 1
    questions.ask(config, workdir)
    assert "unlabeled/7.png" in (workdir / "queries.csv").read_text()


def test_a_pile_keeps_the_split_that_its_run_began_with(pile, tmp_path, capsys):
    """Of six cats and six dogs a seed has drawn eight to label and four to validate,
    and a CSV file labels two more: none is left to draw from once one went."""
    for i in range(8, 16):
        _add(pile, f"{('cat', 'dog')[i % 2]}/{i}.png", 10 * i)
    labels = tmp_path / "answers.csv"
    labels.write_text("image,label\nunlabeled/2.png,cat\nunlabeled/3.png,dog\n")
    config = _config(pile, "fixmatch.FixMatch", labels=str(labels))
    config.data.update(num_labels=8, num_validation=4)
    dataset, split, *_ = tiny.load(config, core.make_mesh(ONE))
    workdir = tmp_path / "w"
    run.run(config, workdir, devices=ONE)

    def asked(size):
        config.query.size = size
        questions.ask(config, workdir)
        _, *rows = (workdir / "queries.csv").read_text().splitlines()
        return {row.partition(",")[0] for row in rows if row.endswith(",")}

    config.predict.dir = str(pile)
    (pile / dataset.names_N[split.labeled[0]]).unlink()
    predict.write(config, workdir)
    told = "on the 11 images in folders called by a class, 11 of which the run had"
    assert told in capsys.readouterr().out
    assert asked(2) == {"unlabeled/6.png", "unlabeled/7.png"}
    (pile / dataset.names_N[split.validation[0]]).unlink()
    (pile / "unlabeled/3.png").unlink()
    new = {f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20, 24)}
    for name in new:
        _add(pile, name, 99)
    predict.write(config, workdir)
    told = "on the 18 images in folders called by a class, 10 of which the run had"
    assert told in capsys.readouterr().out
    assert asked(10) == {"unlabeled/6.png", "unlabeled/7.png"} | new


def test_a_run_goes_on_with_a_grown_pile_at_a_word(pile, tmp_path, caplog):
    """Labels by a CSV file, of which an image went."""
    for name in ("cat", "dog"):
        for file in (pile / name).iterdir():
            file.rename(pile / "unlabeled" / f"{name}{file.name}")
        (pile / name).rmdir()
    answers = "image,label\n" + "".join(
        f"unlabeled/{name},{name[:3]}\n"
        for name in ("cat0.png", "cat4.png", "dog1.png", "dog5.png")
    )
    (tmp_path / "answers.csv").write_text(answers)
    workdir, labels = tmp_path / "w", str(tmp_path / "answers.csv")
    config = _config(pile, "supervised.Supervised", labels=labels)
    config.train.unlabeled_ratio = 0
    run.run(config, workdir, devices=ONE)
    _unfinished(workdir)
    (pile / "unlabeled/cat4.png").unlink()
    refused = r"(?s)1 images went .*'unlabeled/cat4.png'.*data\.changed=accept"
    with pytest.raises(UserError, match=refused):
        run.run(config, workdir, devices=ONE)
    config.data.changed = "accept"
    result = run.run(config, workdir, devices=ONE)
    assert result["data"]["classes"] == {"cat": 1, "dog": 2}
    assert "goes on with other data: 1 images went" in caplog.text
    assert "skipped 1 rows about images that are not there now" in caplog.text
    config.data.changed = ""  # these are what it goes on with from now on
    assert run.run(config, workdir, devices=ONE) == result


def test_a_run_does_not_go_on_where_what_validates_would_be_drawn_anew(pile, tmp_path):
    workdir = tmp_path / "w"
    config = _config(pile, "supervised.Supervised", num_validation=2)
    config.train.unlabeled_ratio = 0
    before = run.run(config, workdir, devices=ONE)
    config.data.changed = "accept"
    _add(pile, "cat/9.png", 77)
    assert run.run(config, workdir, devices=ONE) == before  # it is over
    _unfinished(workdir)
    with pytest.raises(
        UserError, match=r"(?s)1 images came \('cat/9.png'\), and data.nu"
    ):
        run.run(config, workdir, devices=ONE)
    (pile / "cat/9.png").unlink()
    _add(pile, "unlabeled/9.png", 77)
    assert run.run(config, workdir, devices=ONE)["data"]["unlabeled"] == 5


def test_a_workdir_does_not_lie_among_the_images(pile, tmp_path):
    config = _config(pile, "supervised.Supervised")
    (tmp_path / "link").symlink_to(pile)
    for place in (pile / "runs/first", pile, tmp_path / "link/first"):
        message = rf"lies in config.data.dir=.*pile'.*--workdir={tmp_path}/runs/"
        with pytest.raises(UserError, match=message):
            run.run(config, place, devices=ONE)
    assert not (pile / "runs").exists() and not (pile / "first").exists()
    (tmp_path / "more").mkdir()
    config.data.unlabeled = str(tmp_path / "more")
    with pytest.raises(UserError, match="lies in config.data.unlabeled="):
        run.run(config, tmp_path / "more/first", devices=ONE)
