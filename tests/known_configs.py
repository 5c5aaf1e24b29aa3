"""Every config there is, its words and its methods, for the tests of them."""

import functools
import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import methods
from ssl_jax.errors import UserError

ROOT = Path(__file__).parents[1]
FILES = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
FILES = [name for name in FILES if name not in ("base", "methods")]
# Without README's example, which tests add to them.
METHODS = [m for m in methods.names() if (ROOT / f"ssl_jax/algorithms/{m}.py").exists()]


def get(name: str, arg: str = "") -> ConfigDict:
    """Of configs/<name>.py:<arg>."""
    return importlib.import_module(f"configs.{name}").get_config(arg)


@functools.cache
def words_of(name: str) -> tuple[list[str], list[str]]:
    """(what the config knows beside "debug", its methods), as its own message tells."""
    with pytest.raises(UserError) as error:
        get(name, "?")
    said = str(error.value).partition("knows: ")[2].removesuffix(".")
    known, _, there = said.partition(", and the methods: ")
    known = known.removesuffix("debug").split(", ")
    return [w for w in known if w], [w for w in there.split(", ") if w in METHODS]


DATA_SETS = [name for name in FILES if words_of(name)[1]]
EXPERIMENTS = [name for name in FILES if name not in DATA_SETS]


def name_of(name: str, word: str) -> str:
    """Of a run with one word or none."""
    if name in DATA_SETS:
        return f"{word or 'fixmatch'}_{name}"
    return name
