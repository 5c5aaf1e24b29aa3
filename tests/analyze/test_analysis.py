"""--mode=analyze: a folder with all that happens to folders, arrays, and a graph."""

import json
import shutil

import numpy as np
import pytest
from photos import fill, save
from PIL import Image

import tiny
from configs import auto, byol_digits, folder
from ssl_jax import core
from ssl_jax.analyze import analysis, estimate
from ssl_jax.cli import modes
from ssl_jax.data.dataset import of_arrays
from ssl_jax.errors import UserError
from ssl_jax.train import pace, sections
from ssl_jax.workdir.workdir import Workdir

BYTES = "unlabeled/\udcff.png"  # a name that is not UTF-8
BAD = {
    "unlabeled/empty.jpg": "empty",
    "unlabeled/text.jpg": "its content is no image",
    "unlabeled/half.png": "truncated",
    "unlabeled/raw.NEF": "raw file",
}


@pytest.fixture
def pile(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for c, name in enumerate(("cat", "猫")):
        for i in range((24, 2)[c]):
            save(root / name / f"{i}.png", 100 * c + i, (12, 16))
        save(root / "test" / name / "t.png", 100 * c + 90, (12, 16))
    there = Image.open(root / "cat/3.png")
    there.save(root / "test/cat/again.webp", lossless=True)  # the same pixels
    there.resize((64, 48), Image.BICUBIC).save(root / "test/cat/large.png")
    shutil.copy(root / "cat/4.png", root / "猫/four.png")  # another label
    unlabeled = root / "unlabeled"
    save(unlabeled / "grey.png", 200, (12, 16), mode="L")
    save(unlabeled / "half.png", 203, (12, 16))
    half = (unlabeled / "half.png").read_bytes()
    (unlabeled / "half.png").write_bytes(half[: len(half) // 2])
    deep = np.random.default_rng(0).integers(0, 65_536, (12, 16)).astype(np.uint16)
    Image.fromarray(deep).save(unlabeled / "deep.png")
    Image.fromarray(np.uint8(deep >> 8)).convert("P").save(unlabeled / "palette.png")
    film = [Image.new("L", (16, 12), value) for value in (10, 200)]
    film[0].save(unlabeled / "film.gif", save_all=True, append_images=film[1:])
    (unlabeled / "empty.jpg").write_bytes(b"")
    (unlabeled / "text.jpg").write_text("no image")
    (unlabeled / "raw.NEF").write_bytes(b"II*\0")
    (unlabeled / "notes.txt").write_text("call mother")
    save(root / BYTES, 204, (12, 16))
    return root


@pytest.fixture
def config(pile):
    config = folder.get_config("supervised")
    config.data.update(dir=str(pile), image_size=16)
    return config


def test_a_folder_of_all_sorts(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "measured", refuse)
    found = analysis.write(config, tmp_path / "w")
    assert json.loads((tmp_path / "w/analysis.json").read_text()) == found
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["analysis.json"]
    assert not Workdir(tmp_path / "w").begun

    assert found["counts"]["labeled"]["classes"] == {"cat": 24, "猫": 3}
    assert found["counts"]["unlabeled"] == {
        "images": 5,
        "classes": {"cat": 0, "猫": 0},
    }
    assert found["counts"]["test"]["images"] == 4
    bad = {entry["image"]: entry["reason"] for entry in found["unreadable"]}
    assert bad.keys() == BAD.keys()
    assert all(why in bad[name] for name, why in BAD.items())
    files = found["files"]
    assert files["formats"]["GIF"] == 1 and files["modes"]["I;16"] == 1
    assert files["images"] == 24 + 3 + 4 + 5
    assert files["sizes"]["largest"] == [64, 48]
    assert files["several_frames"] == ["unlabeled/film.gif"]
    assert set(files["grey"]) >= {"unlabeled/grey.png", "unlabeled/deep.png"}
    assert files["no_images"] == {".txt": 1}
    assert found["one_colour"] == ["unlabeled/film.gif"]

    (across,) = found["copies"]["across"]
    assert across["splits"] == ["test", "labeled"]
    assert across["exact"] == [["test/cat/again.webp", "cat/3.png"]]
    assert across["near"] == [["test/cat/large.png", "cat/3.png"]]
    (contradiction,) = found["copies"]["contradict"]["exact"]
    assert contradiction == {
        "images": ["cat/4.png", "猫/four.png"],
        "labels": ["cat", "猫"],
    }
    assert found["normalised"]["train"]["fits"] and found["time"] is None

    said = capsys.readouterr().out
    assert "test/cat/again.webp is cat/3.png" in said
    assert "cat/4.png 'cat' and 猫/four.png '猫'" in said
    for name, reason in BAD.items():
        assert f"  {name}: " in said and reason in said
    assert "no estimate" in said and "too few" in said


def refuse(*_):
    raise UserError("too few")


def test_what_would_stop_a_run_stops_no_analysis(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "measured", None)  # nobody asks
    config.data.update(strict=True, image_size=0, num_labels=10)
    root = tmp_path / "photos"
    shutil.rmtree(root / "猫")
    fill(root / "猫", "a.png")
    (root / "猫/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    config.train.augment.update(mean=(0.0,), std=(1.0,))
    found = analysis.write(config, tmp_path / "w")
    stops = "\n".join(found["stops"])
    for said in (
        "strict=True",
        "image_size",
        "class '猫' can be read",
        "num_labels=10",
    ):
        assert said in stops, stops
    assert found["shape"] == [12, 12, 3]  # what the message suggests
    assert list(found["counts"]) == ["pool", "test"]
    assert len(found["unreadable"]) == len(BAD) + 1
    assert "--config.train.augment.std='(" in "\n".join(found["warnings"])
    assert "a run with this config would stop:" in capsys.readouterr().out


def test_where_nothing_can_be_read_all_is_told_and_it_is_a_mistake(
    config, tmp_path, capsys
):
    for path in (tmp_path / "photos").rglob("*"):
        if path.suffix in (".png", ".gif", ".webp"):
            path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="none can be read"):
        analysis.write(config, tmp_path / "w")
    found = json.loads((tmp_path / "w/analysis.json").read_text())
    assert len(found["unreadable"]) == 24 + 3 + 4 + 5 + len(BAD)
    assert "cannot be read:" in capsys.readouterr().out


def test_settings_that_follow_from_the_data_are_those_of_the_run(
    config, pile, tmp_path, monkeypatch
):
    shutil.rmtree(pile / "unlabeled")  # so that the second phase has nothing to learn
    asked = []
    monkeypatch.setattr(estimate, "measured", lambda run, *_: refuse(asked.append(run)))
    config = auto.get_config()
    config.data.update(dir=str(pile), image_size=16)
    found = analysis.write(config, tmp_path / "w")
    assert found["stops"] == ["too few"]
    assert asked[0].config["adapted"]["labels"] == (24, 3)
    assert [*asked[0].trained] == ["supervised"]


def test_a_stream_tells_of_damaged_files_as_well(config, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "measured", refuse)
    config.data.placement = "stream"
    found = analysis.write(config, tmp_path / "w")
    assert {entry["image"] for entry in found["unreadable"]} == BAD.keys()
    assert found["copies"]["across"][0]["exact_images"] == 1


def test_a_workdir_among_the_images_is_refused(config, pile):
    with pytest.raises(UserError, match="figures would be taken for images"):
        analysis.write(config, pile / "w")


def test_arrays_and_the_time_of_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pace, "_SECONDS", 0.1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), np.uint8)
    images[7] = images[55]
    labels = np.arange(60) % 10
    dataset = of_arrays(
        images[:50],
        labels[:50],
        test_images_MHWC=images[50:],
        test_labels_M=labels[50:],
    )
    config = tiny.config("supervised.Supervised")
    config.train.update(steps=400, eval_every=100, unlabeled_ratio=0)
    found = analysis.write(config, tmp_path, dataset=dataset)
    (across,) = found["copies"]["across"]
    assert across["exact"] == [["test row 5", "row 7"]]
    phase = found["time"]["phases"]["train"]
    assert phase["steps"] == 400 and phase["evaluations"] == 4
    steps = 400 * phase["seconds_per_step"]
    evaluations = 4 * phase["seconds_per_evaluation"]
    parts = phase["compile_seconds"] + steps + evaluations
    assert phase["seconds"] == pytest.approx(parts, abs=0.01)
    assert min(steps, evaluations, phase["compile_seconds"]) > 0
    assert "the run would take about" in capsys.readouterr().out


def test_many_seeds_take_as_many_times(tmp_path, monkeypatch):
    config = tiny.config("supervised.Supervised")
    config.train.unlabeled_ratio = 0
    config.num_seeds = 3
    phase = {"seconds": 2.0}
    monkeypatch.setattr(estimate, "_of_phase", lambda *_: phase)
    run = sections.parse(config)
    assert estimate.measured(run, None, core.make_mesh())["seconds"] == 6.0


def test_what_an_estimate_does_not_count_is_named(monkeypatch):
    """A k-NN at each evaluation, too, which may take as long as the rest."""
    monkeypatch.setattr(estimate, "_of_phase", lambda *_: {"seconds": 1.0})
    run = sections.parse(byol_digits.get_config("debug"))
    assert run.trained["pretrain"].knn
    found = estimate.measured(run, None, core.make_mesh())
    assert found["not_counted"] == ["the k-NN of pretrain", "probe"]


def test_analyze_is_a_mode():
    assert modes.MODES["analyze"] is analysis.write
