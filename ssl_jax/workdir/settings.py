"""What may differ between two launches of one run, and what may not."""

import json

from ml_collections import ConfigDict

from ssl_jax.errors import UserError

# What may differ between two launches in one workdir: where things are, what is shown,
# and, in any phase, how often it saves.
FREE = ("tensorboard", "data.dir", "predict.dir")


FREE_PHASE = ("checkpoint_every",)


def _decisive(config):
    """{"train.steps": "1000", ...}, without what cannot change the result."""
    free = {*FREE, *(f"{name}.{field}" for name in config for field in FREE_PHASE)}
    flat = {name: value for name, value in _flat(config) if name not in free}
    # That there are answers; which, `own_labels` compares.
    flat["data.labels"] = flat.get("data.labels", '""') != '""'
    if flat.get("query.rounds", "0") == "0":  # nothing is asked as it trains
        flat = {k: v for k, v in flat.items() if not k.startswith("query.")}
    return flat


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value)


def plain(config: ConfigDict) -> dict:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def _saved(workdir):
    """What config.json says, or None without one."""
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error}); give another --workdir."
        ) from error
