"""Every config there is, with `:debug`, which shrinks data, model and steps: it is
trained or traced.

design.md has every config and word train two steps. Each then takes seconds of XLA's,
and there are too many for the suite's eight minutes: what trains is each method, and of
data sets and experiments those that do something which no other does (TRAINED). The
others, and all words of experiments, are built on their data and traced, which shows a
setting, a field or a shape that does not fit (TRACED). What is not shown of them is
that XLA compiles it, and that the numbers are finite.
"""

import json

import jax
import pytest

import tiny
from configs import methods
from known_configs import DATA_SETS, EXPERIMENTS, METHODS, get, name_of, words_of
from ssl_jax import core
from ssl_jax.cli import modes
from ssl_jax.report.figures import curves
from ssl_jax.train import phases, pictures, program, run, sections
from ssl_jax.workdir import drawing

# As CIFAR-10, but for the numbers in it; and as byol_digits, or as byol_stl10, which
# tests/train/test_probing.py trains on images of its own.
ALIKE = ["stl10", "svhn", "byol_cifar10", "byol_folder", "byol_imagenet"]
ALIKE += ["byol_imagenette", "byol_stl10"]
TRAINED = [
    *((data, "fixmatch") for data in DATA_SETS if data not in ALIKE),
    *(("digits", method) for method in METHODS if method != "fixmatch"),
    *((name, "") for name in EXPERIMENTS if name not in ALIKE),
    ("mnist", "supervised"),
]
EMBEDDINGS = [word for word in methods.embeddings() if word != "byol"]
TRACED = [
    *(("cifar10", method) for method in METHODS if method != "fixmatch"),
    *(("cifar10", word) for word in ("cta", "torchssl", "lt", "small")),
    ("cifar10", "flexmatch,tutorial"),
    ("cifar100", "usb"),
    *(("stl10", "fixmatch"), ("stl10", "flexmatch"), ("svhn", "fixmatch")),
    *((name, "") for name in ALIKE if name in EXPERIMENTS),
    *(("byol_digits", word) for word in EMBEDDINGS),
    *(("byol_stl10", "mae"), ("byol_folder", "mae,probe"), ("byol_imagenet", "dino")),
    *((name, w) for name in EXPERIMENTS if name != "auto" for w in words_of(name)[0]),
]
# Grey images and colour, 10 classes and 100; and what is drawn of nothing else.
DRAWN = [
    *(("cifar10", "fixmatch"), ("cifar100", "fixmatch"), ("mnist", "fixmatch")),
    *((name, "") for name in ("byol_digits", "simsiam_cifar10", "autoencoder_mnist")),
    *((name, "") for name in ("gcn_cora", "active_digits", "pseudo_label_mnist")),
    *(("digits", "fixmatch"), ("digits", "noisy_student")),
]


@pytest.mark.parametrize("name, word", TRAINED)
def test_debug_trains(name, word, tmp_path, monkeypatch):
    if name == "digits" and (name, word) not in DRAWN:
        # Each is made, but put into no file: that is half of it, and alike for all.
        monkeypatch.setattr(drawing, "write_figure", lambda *_: None)
    elif (name, word) not in DRAWN:
        # It draws what its method draws on digits, or FixMatch on such images, and an
        # eighth of the suite's time would go into that.
        monkeypatch.setattr(pictures, "before", lambda *_: {})
        monkeypatch.setattr(curves, "of_phase", lambda *_: {})
    config = get(name, f"{word},debug")
    for phase in config.phases:
        if "algorithm" in config[phase]:
            config[phase].steps = min(config[phase].steps, 2)
    result = modes.run(config, tmp_path / "run", devices=jax.devices()[:1])
    failed = [path.read_text() for path in tmp_path.rglob(f"*{drawing.FAILED}")]
    assert not failed, failed[0]
    assert result["name"] == f"{name_of(name, word)}_debug"
    for phase in config.phases:
        if "algorithm" in config[phase]:
            assert result["phases"][phase]["steps"] == config[phase].steps <= 2
        else:
            assert (
                result["probe"]["learned"]
                == result["phases"][phase]["probe"]["learned"]
            )
    assert 0 <= result["test"]["accuracy"] <= 1
    kept = json.loads((tmp_path / "run/config.json").read_text())["config"]["data"]
    assert kept["digits_as"] == list(config.data.digits_as)


@pytest.mark.parametrize("name, arg", TRACED)
def test_debug_is_traced(name, arg):
    """Each phase's state and step, from its images to its metrics, but no program."""
    mesh = core.make_mesh(jax.devices()[:1])
    wanted = sections.parse(config := get(name, f"{arg},debug"))
    data = tiny.load(config, mesh)
    run.check(wanted, data)
    with jax.set_mesh(mesh):
        built = [phases.build(wanted, s, data, mesh) for s in wanted.trained.values()]
        program.check_handovers(built)
        for phase in built:
            assert "loss" in program.like(phase)["sums"]
