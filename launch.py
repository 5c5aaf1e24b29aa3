"""python launch.py --config=digits:flexmatch [--config.seed=1] [--workdir=W]

Flags into ssl_jax. A user's mistake ends with one message and status 2.
"""

import signal
import sys
from logging import Formatter

from absl import app, flags, logging

from ssl_jax.cli import usage
from ssl_jax.errors import UserError

flags.DEFINE_string(
    "config",
    None,
    "NAME[:word,word] of configs/, or FILE.py[:word,word]; and --config.FIELD=VALUE",
)
WORKDIR = flags.DEFINE_string("workdir", "", "default: runs/<name>-seed<seed>")
MODE = flags.DEFINE_enum("mode", "train", list(usage.MODES), "what to do")


def main(config):
    from ssl_jax.cli import modes
    from ssl_jax.workdir.files import expanded

    # SIGTERM is Ctrl-C; train.run takes both while it trains.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workdir = expanded(WORKDIR.value or f"runs/{config.name}-seed{config.seed}")
        print(f"workdir {workdir}", flush=True)
        modes.MODES[MODE.value](config, workdir)
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint, if any")


def parse(argv):
    """Flags, and the config for `main`, with every mistake told in one message."""
    from ssl_jax.cli import command_line, modes, process  # which takes seconds

    # absl would say when, in which thread and line.
    logging.get_absl_handler().setFormatter(Formatter("%(levelname)s: %(message)s"))
    try:
        config = command_line.parse(flags.FLAGS, argv, modes.OF_A_RUN)
        process.set_up(config)
    except (flags.Error, UserError) as error:
        fail(error)
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
    return config


def fail(error):
    print(f"launch.py: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    if usage.is_asked(sys.argv):
        print(usage.text())
        sys.exit(0)
    app.run(main, flags_parser=parse)
