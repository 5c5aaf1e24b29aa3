"""A run's config by name: "cifar10:flexmatch" is configs/cifar10.py, and a word for it.

Nothing here or elsewhere in ssl_jax imports configs/ before a config is asked for.
"""

import difflib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from ssl_jax.errors import UserError

ROOT = Path(__file__).parents[2]
DATA_SETS = "data sets, with a method as a word (digits:flexmatch), or else FixMatch"
# The names of before data sets took the method as a word: <method>_<data>, which
# `_today` reads, and these.
RENAMED = {
    "finetune_stl10": "byol_stl10:finetune",
    "supervised_stl10": "byol_stl10:scratch",
}


def load(given: str) -> ConfigDict:
    """The configuration that --config=`given` asks for.

    Args:
      given: a name in configs/ or the path of a file, and behind a colon its words.

    Raises:
      UserError: there is no such file, it is no config, or refuses the words.
      Exception: whatever a config file raises that has a mistake in it.
    """
    name, *words = given.split(":", 1)
    path = find(name, *words)
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None:
        raise UserError(f"config {path} is not a Python file.")
    _importable()
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} has no get_config(). {there()}")
    return module.get_config(*words)


def imported(name: str) -> ModuleType:
    """configs/<name>.py, as a module."""
    _importable()
    return importlib.import_module(f"configs.{name}")


def _importable():
    """configs/ is found from elsewhere too, such as a notebook's folder."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


def find(name: str, words: str = "") -> Path:
    """The file `name` from the current directory, or from that of launch.py, or in its
    configs/, where ".py" may be left out.

    Raises:
      UserError: it is in none; the message says what is near, or of an old name what it
        is called now, and lists what there is.
    """
    known = ROOT / "configs" / f"{name.removesuffix('.py')}.py"
    files = [Path(name), ROOT / name]
    # "digits" is the config, whatever else is called so where one stands.
    for file in (*files, known) if name.endswith(".py") else (known, *files):
        if file.is_file():
            return file.absolute()
    stem = Path(name).stem
    if now := _today(stem):
        asked = f"{name}:{words}" if words else name
        new = " or ".join(repr(_with_words(spelling, words)) for spelling in now)
        raise UserError(
            f"{asked!r} is {new} now: a data set's config takes the method as a word."
        )
    near = difflib.get_close_matches(stem, spellings := _spellings(), 1)
    hint = f" Did you mean {_with_words(spellings[near[0]], words)!r}?" if near else ""
    raise UserError(f"no config {name!r}.{hint} {there()}")


def there() -> str:
    """The configs that there are, in columns by kind."""
    data_sets, experiments = kinds()
    return "\n".join(
        [
            "There are:",
            f"{DATA_SETS}:",
            *_columns(data_sets),
            "methods:",
            *_columns(list(methods())),
            "experiments:",
            *_columns(experiments),
        ]
    )


def kinds() -> tuple[list[str], list[str]]:
    """(data sets, experiments), told apart without running the files."""
    data_sets, experiments = [], []
    for file in sorted((ROOT / "configs").glob("*.py")):
        text = file.read_text()
        if re.search(r"^def get_config\(", text, re.M):
            takes_method = re.search(r"^METHODS = ", text, re.M)
            (data_sets if takes_method else experiments).append(file.stem)
    return data_sets, experiments


def methods() -> dict[str, str]:
    """The methods that are words of every data set, and their names."""
    return imported("methods").names()


def _today(stem):
    """How what was called `stem` is spelled now, if it was called so."""
    now = [RENAMED[stem]] if stem in RENAMED else []
    method, _, data = stem.rpartition("_")
    if data in kinds()[0] and method in methods():
        now.append(data if method == "fixmatch" else f"{data}:{method}")
    return now


def _spellings():
    """{what might be typed: how it is spelled}."""
    data_sets, experiments = kinds()
    return {
        **{method: f"{data_sets[0]}:{method}" for method in methods()},
        **{f"{m}_{data}": f"{data}:{m}" for data in data_sets for m in methods()},
        **{name: name for name in (*data_sets, *experiments)},
    }


def _with_words(spelling, words):
    if not words:
        return spelling
    return f"{spelling}{',' if ':' in spelling else ':'}{words}"


def _columns(names, width=78):
    each = max(map(len, names)) + 2
    in_row = width // each
    return [
        "  " + "".join(name.ljust(each) for name in names[i : i + in_row]).rstrip()
        for i in range(0, len(names), in_row)
    ]
