"""python launch.py --config=digits:flexmatch [--config.seed=1] [--workdir=W]

Flags into ssl_jax. A user's mistake ends with one message and status 2.
"""

import gc
import os
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
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "that train together")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "of this one, from 0")
MODE = flags.DEFINE_enum("mode", "train", list(usage.MODES), "what to do")


def main(config):
    from ssl_jax.cli import joined, modes
    from ssl_jax.workdir.files import expanded

    # SIGTERM is Ctrl-C; train.run takes both while it trains.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workdir = expanded(WORKDIR.value or modes.workdir(MODE.value, config))
        print(f"workdir {workdir}", flush=True)
        with joined.together():
            modes.MODES[MODE.value](config, workdir)
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint, if any")


def parse(argv):
    """Flags, and the config for `main`, with every mistake told in one message."""
    # Imports and tracing make many objects that live on: looking for garbage among them
    # takes a tenth of the time.
    gc.set_threshold(50_000)
    # Which takes seconds.
    from ssl_jax.cli import cluster, command_line, joined, modes, process

    # absl would say when, in which thread and line.
    logging.get_absl_handler().setFormatter(Formatter("%(levelname)s: %(message)s"))
    try:
        config = command_line.parse(flags.FLAGS, argv, modes.OF_A_RUN)
        given = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
        place = cluster.place(os.environ, *given)
        logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
        process.set_up(config, processes=1 if place is None else place.count)
        if place is not None:
            modes.check_together(MODE.value, config)
            joined.join(place)
    except (flags.Error, UserError) as error:
        fail(error)
    return config


def fail(error):
    print(f"launch.py: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    if usage.is_asked(sys.argv):
        print(usage.text())
        sys.exit(0)
    app.run(main, flags_parser=parse)
