"""--help."""

import re

import pytest

from configs import methods
from launching import real
from ssl_jax.cli import config_files, modes, usage


def test_help_names_the_flags_the_modes_and_every_config():
    """And comes before what trains is imported, which takes seconds."""
    run = real("--config=digits", "--help", python=("-X", "importtime"))
    assert run.returncode == 0
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", run.stderr, re.M))
    assert "ssl_jax.cli.usage" in imported
    assert not {"orbax", "matplotlib", "ssl_jax.train.run"} & imported
    for said in ("--workdir=W", "--config=NAME[:word,word]", "--mode=MODE"):
        assert said in run.stdout
    assert all(len(line) <= 80 for line in run.stdout.splitlines())

    about = dict(re.findall(r"^  (\w+) +(\S.*)$", run.stdout, re.M))
    data_sets, experiments = config_files.kinds()
    # Without README's example, which other tests install in this process.
    there = set(methods.names()) - {"entropy"}
    assert about.keys() >= {*data_sets, *experiments, *there, *modes.MODES}
    assert about["digits"].startswith("scikit-learn's 1,797 digits with 40 labels")
    assert usage.MODES.keys() == modes.MODES.keys()


@pytest.mark.parametrize(
    "flags, asked",
    [
        (["--help"], True),
        (["--config=digits", "-h"], True),
        (["--helpfull"], False),  # absl's
        (["--config=help"], False),
    ],
)
def test_help_is_asked_for_by_a_flag(flags, asked):
    assert usage.is_asked(["launch.py", *flags]) == asked
