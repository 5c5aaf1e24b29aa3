"""The command line's mistakes, one message each; absl answers many by a traceback."""

import difflib
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssl_jax.cli import config_files, older, policies
from ssl_jax.errors import UserError
from ssl_jax.workdir import settings


def parse(
    known: flags.FlagValues, argv: list[str], of_a_run: Sequence[str] = ()
) -> ConfigDict:
    """Parses `argv` into `known`, which has the flag --config.

    Args:
      of_a_run: the modes whose --config is by default what --workdir was run with.

    Returns:
      The configuration that --config names with every --config.field=value in it,
      locked. Where one names another model, algorithm or kind of views, its section
      gets their defaults first, in whatever order they are given; and before that the
      settings of its policy, if it has one.

    Raises:
      UserError, flags.Error: a mistake in `argv`.
      Exception: whatever a config file raises that has a mistake in it.
    """
    argv = known.read_flags_from_files(argv, force_gnu=False)
    default = asked_for(known, argv, of_a_run)
    try:
        config, rest = applied(default, argv)
        rest = known(rest)
    except ValueError as error:  # such as --noconfig.deterministic=1
        raise UserError(str(error)) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is no flag; flags are written --name=value.")
    return config


def applied(default: ConfigDict, argv: list[str]) -> tuple[ConfigDict, list[str]]:
    """(`default` as `argv` changes it, locked; what else is in `argv`): the settings of
    a policy first, then each model, algorithm and kind of views that is named, then
    every --config.field=value.

    Raises:
      UserError, flags.Error, ValueError: a mistake in `argv`.
    """
    taken = _with_policy(default, argv)
    refill(default, argv)
    check_names(default, argv)
    config, rest = overridden(default, argv)
    check_tuples(default, config)
    if "policy" in config:  # a run of an older version has none
        config.policy = taken
    return config, rest


def _with_policy(config, argv):
    """The path of the policy whose settings `config` has now; "" without one.

    A run that is there has the settings of its policy already.
    """
    if argument("config", argv) is None:
        return config.get("policy", "")
    given = argument("config.policy", argv)
    given = config.get("policy", "") if given is None else given
    if not given:
        return ""
    path = policies.find(given)
    policies.lay_over(config, path)
    return str(path)


def asked_for(
    known: flags.FlagValues, argv: list[str], of_a_run: Sequence[str]
) -> ConfigDict:
    """What --config names; or of a mode of a run, what --workdir was run with."""
    given = argument("config", argv)
    if given is not None:
        return config_files.load(given)
    if (mode := argument("mode", argv)) in of_a_run:
        config = settings.of_run(argument("workdir", argv) or "")
        return ConfigDict(older.completed(config) if mode in older.MODES else config)
    try:
        known(argv)  # which may hold --help, or another mistake
    except flags.UnrecognizedFlagError:
        pass  # --config.seed=1 is unknown where there is no --config
    raise UserError(f"give a --config. {config_files.there()}")


def argument(name: str, argv: list[str]) -> str | None:
    """The value of the flag --<name>, in whichever way absl lets it be written."""
    alone = flags.FlagValues()
    alone.set_gnu_getopt()  # goes on behind what it does not know
    flags.DEFINE_string(name, None, "", flag_values=alone)
    alone(argv, known_only=True)
    return alone[name].value


def refill(config: ConfigDict, argv: list[str]) -> None:
    """Where `argv` names another model, algorithm or kind of views, their section of
    `config` becomes what configs/base.py has for them.

    Raises:
      UserError: there is no such one; the message lists what exists.
    """
    base = config_files.imported("base")
    for section in base.named_sections(config):
        name = argument(f"config.{section}.name", argv)
        if name is not None:
            base.refill(config, section, name)


def overridden(default: ConfigDict, argv: list[str]) -> tuple[ConfigDict, list[str]]:
    """(`default` with every --config.field=value of `argv`, what else is in `argv`)."""
    rest, args = [], iter(argv)
    for arg in args:
        if not re.match(r"--?config(=|$)", arg):
            rest.append(arg)
        elif "=" not in arg:  # the name of the file, which has been read, comes next
            next(args)
    fields = flags.FlagValues()
    fields.set_gnu_getopt()
    config_flags.register_flag_parser_for_type(int, WholeNumber())
    config = config_flags.DEFINE_config_dict(
        "config",
        default.copy_and_resolve_references(),
        flag_values=fields,
        lock_config=True,
        sys_argv=rest,
    )
    rest = fields(rest, known_only=True)
    return config.value, rest


class WholeNumber(flags.IntegerParser):
    """Of a field that is an int: 1000 may be written 1e3 as well."""

    def convert(self, argument: str | int) -> int:
        try:
            return super().convert(argument)
        except ValueError:
            pass
        try:
            number = Decimal(argument)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or abs(number) > 2**63 or number % 1:
            raise ValueError(f"{argument!r} is no int: write 1000 or 1e3.")
        return int(number)


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
