"""Overrides of a config; tests/whole/test_launch.py has the mistakes in them."""

import sys

import pytest
from absl import flags

from configs import digits, features_folder
from ssl_jax.cli import command_line, config_files


def train(*fields):
    argv = [f"--config.train.{field}" for field in fields]
    config, rest = command_line.overridden(digits.get_config(), ["launch.py", *argv])
    assert rest == ["launch.py"]
    return config.train


def test_numbers_of_steps_may_have_an_exponent():
    given = train("steps=1e3", "log_every=2.5e1", "eval_every=100", "patience=0")
    numbers = given.steps, given.log_every, given.eval_every, given.patience
    assert numbers == (1000, 25, 100, 0)
    assert {type(number) for number in numbers} == {int}
    assert train("optimizer.learning_rate=1e-3").optimizer.learning_rate == 0.001


def test_another_network_begins_with_the_same_file():
    """As docs/your_images.md has it: the word says how its images were normalised."""
    config = features_folder.get_config("imagenet")
    flags = ["--config.model.name=resnet", "--config.model.weights=r18.pth"]
    command_line.refill(config, ["launch.py", *flags])
    model = command_line.overridden(config, ["launch.py", *flags])[0].model
    assert (model.name, model.depth, model.weights) == ("resnet", 18, "r18.pth")
    assert model.normalized == "imagenet"


@pytest.mark.parametrize("text", ["1e-1", "2.5", "many", "1e400", "nan", "inf", ""])
def test_and_are_whole(text):
    with pytest.raises(flags.IllegalFlagValueError, match="is no int: write 1000 or"):
        train(f"steps={text}")


def test_a_config_is_found_from_any_folder(monkeypatch, tmp_path):
    """A notebook's Python looks in the notebook's folder, and not in launch.py's."""
    monkeypatch.chdir(tmp_path)
    root = config_files.ROOT
    elsewhere = [path for path in sys.path if path not in ("", str(root))]
    monkeypatch.setattr(sys, "path", elsewhere)
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    assert config_files.load("digits:flexmatch").name == "flexmatch_digits"
