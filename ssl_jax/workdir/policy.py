"""policy.json: settings that --mode=tune has found, for other runs to take over."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.settings import with_tuples

FILE = "policy.json"
SEARCH = "tuning.jsonl"  # what looks for one remembers: tuning/study.py
_TRAINED = "trained"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Settings, and where they come from."""

    name: str  # of the config that they are for
    settings: Mapping[str, Any]  # {"train.optimizer.learning_rate": 0.1}
    found: Mapping[str, str]  # how, of each
    # what they bought: "before" and "after", figures on the images held out; of several
    # phases those of each, by its name
    validation: Mapping[str, Any]
    data: str  # the data set's name
    shape: tuple[int, ...]  # of an image: height, width, channels
    class_names: tuple[str, ...]
    budget: Mapping[str, Any]  # what the search was given, and took
    device: Mapping[str, Any]
    versions: Mapping[str, str]
    git: Mapping[str, Any] | None  # the code's commit

    @property
    def of_phases(self) -> Mapping[str, Mapping[str, Any]]:
        """What they bought, by the name of the phase."""
        if "of_steps" not in self.validation:
            return self.validation
        name, _, _ = next(iter(self.settings)).partition(".")
        return {name: self.validation}


def trained(path: Path, phase: str) -> Path:
    """Where the search in the folder `path` trains a phase with what was found for it,
    before it searches for one that starts from that: a run's workdir."""
    return path / _TRAINED / phase


def write(path: Path, policy: Policy) -> None:
    """As policy.json in the folder `path`."""
    write_json(path / FILE, asdict(policy))


def read(path: Path) -> Policy:
    """The policy in the file `path`.

    Raises:
      UserError: there is none.
    """
    try:
        there = json.loads(path.read_text())
        fields = {f: with_tuples(there[f]) for f in Policy.__dataclass_fields__}
        dict(fields["settings"])  # or TypeError
        return Policy(**fields)
    except OSError as error:
        raise UserError(
            f"policy {path} cannot be read ({error.strerror}): give the policy.json "
            "that --mode=tune left in its workdir."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no policy ({type(error).__name__}: {error}): give the "
            "policy.json that --mode=tune left in its workdir."
        ) from error
