"""The committed results, and whether they are of today's configs."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from ssl_jax.workdir import results

RESULTS = Path(__file__).parents[1] / "experiments" / "results"


def read(experiment):
    """Run -> its results."""
    return results.read_table(RESULTS / f"{experiment}.jsonl")


def every(found):
    return [result for runs in found.values() for result in runs]


# What runs did before there was a field for it, where that is not its default of today.
BEFORE = {"head_bias": True}


def assert_of_today(today, then):
    """The result's config is today's; a field that came later is at its default, which
    leaves older runs as they were, or at what was done BEFORE it."""
    sections = {
        name: base.phase(base.algorithm(section.algorithm.name))
        for name, section in today.items()
        if isinstance(section, ConfigDict) and "algorithm" in section
    }
    default = base.run("", **sections)
    default.model = base.model(today.model.name)
    today, default = (json.loads(json.dumps(c.to_dict())) for c in (today, default))
    for either in (today, then):  # where data lie and what is shown change nothing
        either["data"]["dir"], either["tensorboard"] = "", False

    def compare(today, then, default):
        for field, value in today.items():
            if field not in then:
                assert value == BEFORE.get(field, default[field]), field
            elif isinstance(value, dict):
                compare(value, then[field], default.get(field, {}))
            else:
                assert value == then[field], field
        assert then.keys() <= today.keys()

    compare(today, then, default)
