"""A run by an older version, asked without its data: config.json lacks the fields that
came since.

How it was trained, and on what, no longer matters, and a network of another form does
not fit its checkpoint, which is told. So today's defaults will do, where they would not
to go on training or to find the run's images again: that stays refused.
"""

from collections.abc import Mapping
from typing import Any

from ssl_jax.cli import config_files
from ssl_jax.workdir import logs, settings

MODES = ("predict", "embed", "export")  # that ask so


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run that is there, with the defaults of configs/base.py
    where it lacks a field; a line names those.

    What fields it has of its own stay, known today or not.

    Raises:
      UserError: it names a model or method that there is no more.
    """
    complete = _laid_over(_today(config), config)
    there = dict(settings.flat(config))
    if new := [field for field, _ in settings.flat(complete) if field not in there]:
        known = {field.partition(".")[0] for field in there}
        # Of a section that is new, its name.
        new = [f if f.partition(".")[0] in known else f.partition(".")[0] for f in new]
        logs.say(
            "an older version of ssl_jax trained this run; by default is now: "
            f"{', '.join(dict.fromkeys(new))}"
        )
    return complete


def _today(config):
    """A configuration of the same network, methods and probes, all else by default."""
    base = config_files.imported("base")
    sections = {}
    for name, section in config.items():
        if not isinstance(section, Mapping):
            continue
        if settings.trains(section):
            sections[name] = base.phase(base.algorithm(section["algorithm"]["name"]))
        elif "start_from" in section:
            sections[name] = base.probe(section["start_from"])
    today = base.run(config["name"], **sections)
    today.model = base.model(config["model"]["name"])
    return today.to_dict()


def _laid_over(default, given):
    """`given`, and what only `default` has."""
    both = default | given
    for name, value in given.items():
        if isinstance(value, Mapping) and isinstance(default.get(name), Mapping):
            both[name] = _laid_over(default[name], value)
    return both
