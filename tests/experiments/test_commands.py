"""What experiments have in common: flags, commands, and how they take a config."""

import importlib
from pathlib import Path

import pytest
from absl import flags

from experiments import command, jobs
from ssl_jax.cli import command_line

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in (ROOT / "experiments/tables").glob("[a-z]*.py")),
)
def test_every_table_has_its_flags_and_says_its_command(name):
    module = importlib.import_module(f"experiments.tables.{name}")
    for _ in range(2):  # nothing is defined at import, where it would be twice
        given = flags.FlagValues()
        getattr(module, "define_flags", command.define_flags)(given)
        command.parse(name, [name, "--data_dir=d"], given)
        assert (given.results, given.data_dir) == ("experiments/results", "d")
    assert f"python -m experiments.tables.{name}" in module.__doc__


@pytest.mark.parametrize("argument", ["digits:flexmatch", "cifar10:remixmatch,cta"])
def test_configs_are_those_that_launch_takes(argument):
    known = flags.FlagValues()
    flags.DEFINE_string("config", "", "", flag_values=known)
    config = command_line.parse(known, ["launch.py", f"--config={argument}"])
    assert jobs.load(argument).to_dict() == config.to_dict()
    loaded = jobs.load(argument, {"train.steps": 7, "seed": 3})
    assert (loaded.train.steps, loaded.seed) == (7, 3)
    with pytest.raises(KeyError, match="stepz"):
        jobs.load(argument, {"train.stepz": 7})
