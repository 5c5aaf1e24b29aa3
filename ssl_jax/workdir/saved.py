"""The configuration of a run that is there, as a config file: `saved.py:<workdir>`.

launch.py takes it where a mode works on what a workdir holds and no --config is given.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax.errors import UserError


def get_config(workdir: str) -> ConfigDict:
    """The configuration in <workdir>/config.json; lists become tuples again.

    Raises:
      UserError: there is none, or it is not one of ours.
    """
    path = Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text())["config"]
        for field in ("name", "seed", "phases", "data", "model"):
            config[field]  # or KeyError
        return ConfigDict(_with_tuples(config))
    except FileNotFoundError as error:
        raise UserError(
            f"{workdir!r} is no run's workdir: it has no config.json; give the "
            "--workdir of a run."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a run's configuration "
            f"({type(error).__name__}: {error}); give the --workdir of a run."
        ) from error


def _with_tuples(value):
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
