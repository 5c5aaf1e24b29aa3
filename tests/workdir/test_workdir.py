"""How a workdir is entered, and by whom it is not."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import digits as config_file
from ssl_jax import core
from ssl_jax.data import answers, sources
from ssl_jax.data.dataset import inventory, of_arrays
from ssl_jax.errors import UserError
from ssl_jax.workdir import results, settings
from ssl_jax.workdir.workdir import Workdir

DIGITS = sources.load("digits")


@pytest.fixture
def config():
    return config_file.get_config("debug")


@pytest.fixture
def mesh():
    return core.make_mesh()


@contextlib.contextmanager
def entered(path, config, mesh):
    """As a run enters it, and begins to train there."""
    opened = Workdir.open(path, config.to_dict(), results.device(mesh))
    with opened as workdir:
        workdir.phase("train").path.mkdir(exist_ok=True)
        yield workdir


def test_workdir_counts_how_often_it_was_entered(tmp_path, config, mesh):
    for times in range(3):
        with entered(tmp_path / "a" / "w", config, mesh) as workdir:
            assert workdir.resumed == times


def test_workdir_of_another_configuration(tmp_path, config, mesh):
    with entered(tmp_path, config, mesh):
        pass
    config.train.steps = 6
    config.data.num_labels = 30
    with pytest.raises(UserError) as error:
        Workdir(tmp_path).check(config.to_dict())
    assert "\n  data.num_labels = 20 there, 30 here\n" in str(error.value)
    assert "\n  train.steps = 4 there, 6 here\n" in str(error.value)
    assert len(str(error.value).splitlines()) == 4


def test_what_may_differ_between_launches(tmp_path, config, mesh):
    with entered(tmp_path, config, mesh):
        pass
    config.data.dir = "/elsewhere"
    config.data.changed = "accept"
    config.tensorboard = not config.tensorboard
    config.profile = 5
    config.train.checkpoint_every = 4
    Workdir(tmp_path).check(config.to_dict())


def test_a_workdir_is_for_one_process(tmp_path, config, mesh):
    with entered(tmp_path, config, mesh):
        with pytest.raises(UserError, match="another process"):
            with entered(tmp_path, config, mesh):
                pass
        assert json.loads((tmp_path / "config.json").read_text())["resumed"] == 0
    with entered(tmp_path, config, mesh) as workdir:
        assert workdir.resumed == 1


def test_a_mistake_before_training_leaves_nothing(tmp_path, config, mesh):
    with pytest.raises(UserError, match="too late"):
        with Workdir.open(tmp_path / "a" / "w", config.to_dict()):
            raise UserError("too late")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "place")
    for path in (tmp_path / "place", tmp_path / "link"):  # the user's own
        with pytest.raises(UserError, match="too late"):
            with Workdir.open(path, config.to_dict()):
                raise UserError("too late")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "place"]
    assert list((tmp_path / "place").iterdir()) == []


def test_a_mistake_deletes_no_file_of_the_users(tmp_path, config):
    """Even where it is called as the run would call its own copy."""
    given = tmp_path / "labels.csv"
    given.write_text("image,label\n3,7\n")
    config.data.labels = str(given)
    with pytest.raises(UserError, match="too late"):
        with Workdir.open(tmp_path, config.to_dict()):
            raise UserError("too late")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
    assert given.read_text() == "image,label\n3,7\n"


def test_what_was_killed_before_it_trained_binds_nobody(tmp_path, config):
    """As a process leaves it that ran out of memory while it read its data."""
    (tmp_path / "answers.csv").write_text("image,label\n3,7\n")
    config.data.labels = str(tmp_path / "answers.csv")
    workdir = tmp_path / "w"
    with Workdir.open(workdir, config.to_dict()):
        left = {path.name: path.read_bytes() for path in workdir.iterdir()}
        shutil.copytree(workdir, tmp_path / "killed")
    assert set(left) == {"config.json", "lock", "labels.csv"}
    config.data.image_size = 16
    (tmp_path / "answers.csv").write_text("image,label\n3,8\n")
    with Workdir.open(tmp_path / "killed", config.to_dict()) as again:
        assert again.resumed == 0
        own = again.labels(config.to_dict(), compare=False)
        assert Path(own).read_text() == "image,label\n3,8\n"


def test_a_finished_run_is_read_and_not_written(tmp_path, config, mesh):
    with entered(tmp_path, config, mesh) as workdir:
        workdir.phase("train").finish({"steps": 4})
        workdir.finish({"name": "mine"})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    (tmp_path / "lock").unlink()
    with Workdir.open(tmp_path, config.to_dict()) as workdir:
        assert workdir.result == {"name": "mine"}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert not (tmp_path / "lock").exists()


def test_a_run_keeps_the_answers_that_it_began_with(tmp_path, config, mesh):
    given, workdir = tmp_path / "answers.csv", tmp_path / "w"
    given.write_text("image,label\n3,7\n")
    config.data.labels = str(given)
    with entered(workdir, config, mesh):
        pass
    own = Workdir(workdir).labels(config.to_dict())
    assert own == str(workdir / "labels.csv")
    given.write_text("image,label\n3,7\n4,1\n")
    with pytest.raises(UserError, match="answers.csv has other answers"):
        Workdir(workdir).labels(config.to_dict())
    given.unlink()  # or moved
    assert Workdir(workdir).labels(config.to_dict()) == own
    assert "4,1" not in (workdir / "labels.csv").read_text()
    config.data.labels = ""
    with pytest.raises(UserError, match="data.labels = True there, False here"):
        Workdir(workdir).check(config.to_dict())


def test_a_run_knows_its_data(tmp_path, config, mesh):
    with entered(tmp_path, config, mesh) as workdir:
        workdir.remember_data(inventory(DIGITS))
    assert Workdir(tmp_path).changes(inventory(DIGITS), accepted=False) == []
    renamed = DIGITS._replace(class_names=("zebra", *DIGITS.class_names[1:]))
    fewer = DIGITS._replace(labels_N=DIGITS.labels_N[1:])
    for other in (renamed, fewer):
        for accepted in (False, True):  # images without names can't be told apart
            with pytest.raises(UserError, match="(?s)digits is not as it was .*others"):
                Workdir(tmp_path).changes(inventory(other), accepted=accepted)
    (tmp_path / "inventory.json").unlink()  # as of an older version
    with pytest.raises(UserError, match="other classes, images or labels"):
        Workdir(tmp_path).changes(inventory(fewer), accepted=True)


def test_a_pile_that_has_grown_is_told_and_asks_for_a_word(tmp_path, config, mesh):
    labels_N = np.array([0, 1, 1, -1])
    images_NHWC = np.zeros((4, 8, 8, 1), np.uint8)
    names = ["cat/1.png", "dog/1.png", "dog/2.png", "unlabeled/1.png"]
    pile = of_arrays(
        images_NHWC, labels_N, class_names=["cat", "dog"], names_N=names, name="pile"
    )
    with entered(tmp_path, config, mesh) as workdir:
        workdir.remember_data(inventory(pile))
    grown = pile._replace(names_N=("cat/0.png", *names[1:]))
    message = (
        f"pile is not as it was when workdir {tmp_path} began:\n"
        "  1 images came ('cat/0.png')\n"
        "  1 images went or cannot be read now ('cat/1.png')\n"
        "Bring that back, go on by --config.data.changed=accept, or train anew in "
        "another --workdir."
    )
    with pytest.raises(UserError) as refused:
        Workdir(tmp_path).changes(inventory(grown), accepted=False)
    assert str(refused.value) == message
    told = Workdir(tmp_path).changes(inventory(grown), accepted=True)
    assert told == [line.strip() for line in message.splitlines()[1:3]]
    colored = grown._replace(images_NHWC=np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="images are 8x8x3, and were 8x8x1") as refused:
        Workdir(tmp_path).changes(inventory(colored), accepted=True)
    assert "accept" not in str(refused.value)


def test_a_home_folder_is_found_and_none_is_made(tmp_path, config, mesh, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "answers.csv").write_text("image,label\n3,7\n")
    config.data.labels = "~/answers.csv"
    assert len(answers.read("~/answers.csv", DIGITS).index_n) == 1
    with entered("~/w", config, mesh) as workdir:
        assert workdir.path == tmp_path / "home/w"
        given = "image,label\n3,7\n"
        assert (workdir.path / "labels.csv").read_text() == given
    assert settings.of_run("~/w")["data"]["labels"] == "~/answers.csv"
    (tmp_path / "home" / "answers.csv").write_text("image,label\n3,8\n")
    with pytest.raises(UserError, match="home/answers.csv has other answers"):
        Workdir("~/w").labels(config.to_dict())
    with pytest.raises(UserError, match="no user 'nobody-here'; .*, or ./~nobody-here"):
        Workdir("~nobody-here/w")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_figure_that_cannot_be_drawn_costs_the_others_nothing(
    tmp_path, config, mesh, caplog
):
    def broken():
        raise ValueError("no formula")

    with entered(tmp_path, config, mesh) as workdir:
        workdir.draw("train", {"broken": broken, "whole": Figure})
        assert workdir.undrawn() and workdir.undrawn("train")
        assert not workdir.undrawn("teacher")
    figures = tmp_path / "figures"
    assert "train_broken.png is not drawn (ValueError: no formula)" in caplog.text
    assert "ValueError: no formula" in (figures / "train_broken.failed.txt").read_text()
    assert (figures / "train_whole.png").exists()
    assert not (figures / "train_broken.png").exists()
    workdir.draw("train", {"broken": Figure})
    assert not workdir.undrawn()
    assert {path.name for path in figures.iterdir()} == {
        "train_broken.png",
        "train_whole.png",
    }
    # Of another mode, whose command draws it again itself.
    workdir.draw("mode_probe", {"map": broken})
    assert not workdir.undrawn()
