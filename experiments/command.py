"""What the experiments' commands share: flags, and mistakes told in one message."""

import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from ssl_jax.errors import UserError

STOPPED = "stopped; the same command goes on from the last checkpoint, if any"


def start(
    experiment: str,
    program: Callable[[flags.FlagValues], None],
    *define: Callable[[flags.FlagValues], None],
) -> None:
    """Runs a program with the flags that `define` defines; not at import, where they
    would meet other experiments' of the same names. A user's mistake is one message,
    and status 2."""
    given = flags.FLAGS
    for each in define:
        each(given)
    for flag in given.get_flags_for_module(__name__):  # so that --help has them
        given.register_key_flag_for_module(sys.argv[0], flag)
    logging.set_verbosity(logging.WARNING)
    # SIGTERM is Ctrl-C; what trains takes both while it does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def main(_):
        from ssl_jax.cli import process  # not for --help: it takes a second

        try:
            process.keep_compiled()
            program(given)
        except UserError as error:
            fail(experiment, error)
        except KeyboardInterrupt:
            print(STOPPED)

    app.run(main, flags_parser=lambda argv: parse(experiment, argv, given))


def define_flags(to: flags.FlagValues, seeds: str = "0,1,2,3,4") -> None:
    """Every experiment's that trains; without `seeds`, that knows its own."""
    if seeds:
        flags.DEFINE_list("seeds", seeds, "seeds to run", to)
    flags.DEFINE_string("data_dir", "", "as config.data.dir", to)
    flags.DEFINE_string("results", "experiments/results", "folder of the results", to)


def parse(experiment: str, argv: list[str], given: flags.FlagValues) -> list[str]:
    """Parses `argv` into `given`; a mistake is told in one message, status 2."""
    try:
        rest = given(argv)
    except flags.Error as error:
        fail(experiment, error)
    if len(rest) > 1:
        fail(experiment, f"{rest[1]!r} is no flag; flags are written --name=value.")
    return rest


def fail(experiment: str, error: Exception | str) -> None:
    """Ends the program with one message, and status 2."""
    print(f"{experiment}: {error}", file=sys.stderr)
    sys.exit(2)


def parse_seeds(seeds: Sequence[str]) -> list[int]:
    """The numbers.

    Raises:
      UserError: they are not one or more whole numbers, each once.
    """
    numbers = [int(seed) for seed in seeds if seed.isdecimal()]
    if not seeds or len(set(numbers)) < len(seeds):
        raise UserError(
            f"--seeds={','.join(seeds)} must be whole numbers, each once, as in "
            "--seeds=0,1,2."
        )
    return numbers
