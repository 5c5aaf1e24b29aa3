"""Settings that --mode=tune has found, laid over a config: --config.policy=NAME.

NAME is the path of a policy.json, or one that was copied to configs/policies/NAME.json.
"""

from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax.cli import config_files
from ssl_jax.core import named
from ssl_jax.errors import UserError
from ssl_jax.workdir import policy
from ssl_jax.workdir.files import expanded

PRESETS = config_files.ROOT / "configs" / "policies"


def find(given: str) -> Path:
    """The file of the policy `given`; "cifar10_small" is a preset, whatever is called
    so where one stands.

    Raises:
      UserError: there is none; the message lists the presets.
    """
    preset, file = PRESETS / f"{given}.json", expanded(given)
    for path in (preset, file, file / policy.FILE):
        if path.is_file():
            return path.absolute()
    presets = sorted(path.stem for path in PRESETS.glob("*.json"))
    raise UserError(
        f"config.policy={given!r} is no file, nor a preset in {PRESETS}; "
        f"{named.choices(given, presets) if presets else 'there are none.'}"
    )


def lay_over(config: ConfigDict, path: Path) -> None:
    """Puts the settings of the policy in the file `path` into `config`; where one is
    another method, its section becomes that one's first.

    Raises:
      UserError: it is no policy, or has fields or kinds of values that `config` has
        not, all in one message.
    """
    settings = policy.read(path).settings
    base = config_files.imported("base")
    for section in base.named_sections(config):
        if f"{section}.name" in settings:
            base.refill(config, section, settings[f"{section}.name"])
    wrong = []
    for field, value in settings.items():
        section, _, name = field.rpartition(".")
        at = _section(config, section)
        if at is None or name not in at or isinstance(at[name], ConfigDict):
            wrong.append(f"{field}, which {config.name} does not have")
            continue
        try:
            at[name] = value
        except TypeError:
            wrong.append(f"{field}={value!r}, which is {at[name]!r} in {config.name}")
        _settle(config, section, name)
    if wrong:
        raise UserError(
            f"policy {path} is of another config: it sets {'; '.join(wrong)}."
        )


def _settle(config, section, name):
    """Takes a field from those that `config` leaves to the data, which would else have
    it where the policy's value is that of the file (train/adapted.py)."""
    left = _section(config, f"adapt.{section}")
    if left is not None and name in left:
        with config.unlocked():
            del left[name]


def _section(config, name):
    for part in filter(None, name.split(".")):
        if not isinstance(config, ConfigDict) or part not in config:
            return None
        config = config[part]
    return config if isinstance(config, ConfigDict) else None
