"""The command line's mistakes, one message each; absl answers many by a traceback."""

import difflib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from ssl_jax.errors import UserError

ROOT = Path(__file__).parents[2]
SAVED = Path(__file__).parents[1] / "workdir" / "saved.py"


def parse(
    known: flags.FlagValues,
    config: flags.FlagHolder,
    argv: list[str],
    of_a_run: Sequence[str] = (),
) -> list[str]:
    """Parses `argv` into `known`, whose flag --config is `config`.

    Args:
      of_a_run: the modes whose --config is by default what --workdir was run with.

    Raises:
      UserError, flags.Error: a mistake in `argv`.
      Exception: whatever a config file raises that has a mistake in it.
    """
    argv = known.read_flags_from_files(argv, force_gnu=False)
    given = argument("config", argv)
    if given is None and argument("mode", argv) in of_a_run:
        given = f"{SAVED}:{argument('workdir', argv) or ''}"
        argv = [argv[0], f"--config={given}", *argv[1:]]
    if given is not None:
        path, *words = given.split(":", 1)
        path = find_config(path)
        # Loaded here first, because absl would squeeze what it raises into one line.
        default = load_config(path, *words)
        check_names(default, argv)
        absolute = ":".join([str(path), *words])
        argv = [
            f"--config={absolute}" if arg == f"--config={given}" else arg
            for arg in argv
        ]
    try:
        rest = known(argv)
    except flags.UnrecognizedFlagError:
        if given is not None:
            raise
        rest = []  # --config.seed=1 is unknown where there is no --config
    except ValueError as error:  # such as --noconfig.deterministic=1
        raise UserError(str(error)) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is no flag; flags are written --name=value.")
    if given is None:
        raise UserError(f"give a --config; there are: {', '.join(configs())}.")
    check_tuples(default, config.value)
    return rest


def argument(name: str, argv: list[str]) -> str | None:
    """The value of the flag --<name>, in whichever way absl lets it be written."""
    alone = flags.FlagValues()
    alone.set_gnu_getopt()  # goes on behind what it does not know
    flags.DEFINE_string(name, None, "", flag_values=alone)
    alone(argv, known_only=True)
    return alone[name].value


def configs() -> list[str]:
    files = sorted((ROOT / "configs").glob("*.py"))
    return [f"configs/{file.name}" for file in files if file.name != "base.py"]


def find_config(path: str) -> Path:
    """`path` from the current directory, or else from that of launch.py.

    Raises:
      UserError: it is in neither; the message lists the configs that there are.
    """
    for file in (Path(path), ROOT / path):
        if file.is_file():
            return file.absolute()
    raise UserError(f"no config {path!r}; there are: {', '.join(configs())}.")


def load_config(path: Path, *words: str) -> ConfigDict:
    """get_config(*words) of the file.

    Raises:
      UserError: it has none, or refuses the words.
    """
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None:
        raise UserError(f"config {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(
            f"{path} has no get_config(); there are: {', '.join(configs())}."
        )
    return module.get_config(*words)


def check_names(config: ConfigDict, argv: list[str]) -> None:
    """Every --config.a.b in `argv` names one field.

    Raises:
      UserError: it does not; the message lists the fields at that level.
    """
    for arg in argv:
        override = re.match(r"--?(?:no)?config\.([^=]*)", arg)
        if not override:
            continue
        section, at = config, "config"
        for name in override[1].split("."):
            if not isinstance(section, ConfigDict):
                raise UserError(f"{at} is one value, {section!r}, without fields.")
            if name not in section:
                near = difflib.get_close_matches(name, list(section), 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise UserError(
                    f"{at} has no field {name!r}.{hint} "
                    f"It has: {', '.join(sorted(section))}."
                )
            section, at = section[name], f"{at}.{name}"
        if isinstance(section, ConfigDict):
            raise UserError(
                f"{at} is a section; set its fields one by one: "
                f"{', '.join(f'{at}.{name}' for name in sorted(section))}."
            )


def check_tuples(default: ConfigDict, given: ConfigDict, at: str = "config") -> None:
    """The elements of tuples have the default's type: ml_collections looks no deeper.

    Raises:
      UserError: one has another type.
    """
    for name, value in given.items():
        here = f"{at}.{name}"
        if isinstance(value, ConfigDict):
            check_tuples(default[name], value, here)
        elif isinstance(value, tuple) and default[name]:
            wanted = type(default[name][0])
            accepted = (float, int) if wanted is float else wanted
            if not all(isinstance(element, accepted) for element in value):
                raise UserError(
                    f"{here}={value!r}: its elements must be {wanted.__name__}, as in "
                    f"{default[name]!r}."
                )
