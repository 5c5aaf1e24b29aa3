"""config.json: what may differ between two launches of one run, and what may not."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.workdir.files import expanded

CONFIG = "config.json"
# What may differ between two launches in one workdir: where things are, what is shown,
# and, in any phase, how often it saves and logs. More may, by train/extended.py.
FREE = (
    # What a policy sets stands in the configuration itself.
    *("tensorboard", "profile", "cpu_devices", "policy"),
    *("tune.minutes", "tune.trials", "tune.held_out", "tune.methods"),
    *("data.dir", "data.changed", "data.workers"),
    *("predict.dir", "predict.out", "ablate.parts", "ablate.seeds"),
)
FREE_PHASE = ("checkpoint_every", "log_every")


def saved(workdir: Path) -> dict | None:
    """What config.json in `workdir` says, or None without one.

    Raises:
      UserError: it is no JSON.
    """
    path = workdir / CONFIG
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error}); give another --workdir."
        ) from error


def of_run(workdir: str | Path) -> dict:
    """The configuration of the run in `workdir`; lists are tuples again.

    Raises:
      UserError: there is none, or it is not one of ours.
    """
    path = expanded(workdir) / CONFIG
    try:
        config = json.loads(path.read_text())["config"]
        for field in ("name", "seed", "phases", "data", "model"):
            config[field]  # or KeyError
        return with_tuples(config)
    except FileNotFoundError as error:
        raise UserError(
            f"{str(workdir)!r} is no run's workdir: it has no config.json; give the "
            "--workdir of a run."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a run's configuration "
            f"({type(error).__name__}: {error}); give the --workdir of a run."
        ) from error


def differences(
    there: Mapping,
    here: Mapping,
    *only: str,
    verdicts: Mapping[str, str] = MappingProxyType({}),
    at_once: bool = False,
) -> list[str]:
    """A line for each field that two configurations do not share and that changes the
    result.

    Args:
      *only: the sections that count, such as "model"; all by default. Of those a field
        that is not there counts for nothing: it came after what was trained by them.
      verdicts: fields that may differ nevertheless, with "", or with why they may not.
      at_once: whether two processes train by them, which save and log together.
    """
    there, here = (_decisive(plain(config), at_once) for config in (there, here))
    sections = tuple(f"{name}." for name in only)
    return [
        f"{field} = {there.get(field, 'absent')} there, "
        f"{here.get(field, 'absent')} here"
        + (f": {verdicts[field]}" if field in verdicts else "")
        for field in sorted(there.keys() | here.keys())
        if there.get(field) != here.get(field)
        and verdicts.get(field) != ""
        and (not only or (field in there and field.startswith(sections)))
    ]


def trains(section: Mapping) -> bool:
    """Whether a section of a config is of a phase that trains; else it probes."""
    return "algorithm" in section


def plain(config: Mapping) -> dict:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config))


def flat(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """("train.steps", "1000"), ...: dotted fields, values as JSON."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value)


def _decisive(config, at_once):
    """{"train.steps": "1000", ...}, without what cannot change the result."""
    of_phase = () if at_once else FREE_PHASE
    free = {*FREE, *(f"{name}.{field}" for name in config for field in of_phase)}
    fields = {name: value for name, value in flat(config) if name not in free}
    # That there are answers; which, the workdir's own copy tells.
    fields["data.labels"] = fields.get("data.labels", '""') != '""'
    if fields.get("query.rounds", "0") == "0":  # nothing is asked as it trains
        fields = {k: v for k, v in fields.items() if not k.startswith("query.")}
    return fields


def with_tuples(value: Any) -> Any:
    """What JSON gave back, with tuples for its lists."""
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value
