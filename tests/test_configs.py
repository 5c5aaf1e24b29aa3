"""Every config there is trains with `:debug`, which shrinks data, model and steps."""

import importlib
import json
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from configs import base
from ssl_jax import core
from ssl_jax.cli import modes
from ssl_jax.errors import UserError
from ssl_jax.train.run import check

ROOT = Path(__file__).parents[1]
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "base")
# supervised_stl10 is the floor of fine-tuning, not of FixMatch.
FLOORS = [n for n in NAMES if n.startswith("supervised_") and n != "supervised_stl10"]


def _get(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.mark.parametrize("name", NAMES)
def test_debug_trains(name, tmp_path):
    config = _get(name, "debug")
    result = modes.run(config, tmp_path / "run", devices=jax.devices()[:1])
    assert result["name"] == f"{name}_debug"
    for phase in config.phases:
        if "algorithm" in config[phase]:
            assert result["phases"][phase]["steps"] == config[phase].steps <= 4
        else:
            assert (
                result["probe"]["learned"]
                == result["phases"][phase]["probe"]["learned"]
            )
    assert 0 <= result["test"]["accuracy"] <= 1
    pool = config.data.digits_as
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["data"][
        "digits_as"
    ] == list(pool)


def _words(name):
    """What the config knows beside "debug", as its own message tells."""
    with pytest.raises(UserError) as error:
        _get(name, "?")
    return str(error.value).partition("knows: ")[2].removesuffix("debug.").split(", ")


@pytest.mark.parametrize("name", NAMES)
def test_every_word_gives_a_sound_configuration(name):
    mesh = core.make_mesh(jax.devices()[:1])
    for word in filter(None, _words(name)):
        for words in (word, f"{word},debug"):
            config = _get(name, words)
            if words == word:
                assert config.name in (name, f"{name}_{word}")
            check(config, mesh)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_the_files_and_readme_has_its_command(name):
    assert _get(name).name == name
    command = f"--config=configs/{name}.py"
    assert command in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", FLOORS)
def test_supervised_shares_all_but_the_unlabeled_images(name):
    floor = _get(name)
    other = _get(name.replace("supervised", "fixmatch"))
    assert floor.train.algorithm.ema_decay == other.train.algorithm.ema_decay
    assert floor.train.unlabeled_ratio == 0
    for config in (floor, other):
        config.name = ""
        config.train.unlabeled_ratio = 0
        config.train.algorithm = ConfigDict()
    assert floor.to_dict() == other.to_dict()


SHARED = [
    name
    for name in NAMES
    if name.endswith(("_digits", "_cifar10")) and "train" in _get(name).phases
    if _get(name).train.augment  # not label spreading
]


@pytest.mark.parametrize("name", SHARED)
def test_methods_share_data_network_optimizer_and_steps(name):
    """So that a difference between them is the method's."""
    config, other = _get(name), _get(f"fixmatch_{name.rpartition('_')[2]}")
    assert config.data == other.data and config.model == other.model
    for field in ("optimizer", "augment", "steps", "batch_size"):
        assert config.train[field] == other.train[field], field


def test_methods_without_strong_views_do_not_know_ctaugment():
    """And FlexMatch's tutorial, which is a whole, goes with no other word."""
    for name in ("pseudo_label", "pi_model", "mean_teacher", "mixmatch", "supervised"):
        with pytest.raises(UserError, match="cta; this config knows"):
            _get(f"{name}_cifar10", "cta")
    with pytest.raises(UserError, match="leave out small, torchssl"):
        _get("flexmatch_cifar10", "tutorial,small,torchssl")


def test_unknown_words_and_fields_name_what_there_is():
    with pytest.raises(
        UserError, match="ctaa.*knows: google, torchssl, cta, small, debug"
    ):
        _get("fixmatch_cifar10", "ctaa,debug")
    with pytest.raises(UserError, match="exclude each other"):
        _get("fixmatch_cifar10", "google,torchssl")
    with pytest.raises(UserError, match="cta and torchssl exclude"):
        _get("fixmatch_cifar10", "cta,torchssl")
    with pytest.raises(TypeError, match="FixMatch has no tau; it has threshold"):
        base.algorithm("fixmatch.FixMatch", tau=0.9)
    with pytest.raises(UserError, match=r"fixmatch.*supervised"):
        base.algorithm("flexmuch.FlexMuch")


def test_every_leaf_has_a_comment():
    """base.py is the reference that README sends people to."""
    lines = (ROOT / "configs/base.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def run"))
    end = next(i for i, line in enumerate(lines) if line.startswith("def algorithm"))
    bare = [
        lines[i].strip()
        for i in range(start, end)
        if "=" in lines[i]
        and lines[i].rstrip().endswith(",")
        and "#" not in lines[i]
        and not lines[i - 1].strip().startswith("#")
        and "(" not in lines[i]
    ]
    assert not bare
