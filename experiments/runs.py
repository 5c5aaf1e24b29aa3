"""What the experiments share: their flags, and runs that are trained once."""

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from experiments import paper_table
from ssl_jax.errors import UserError
from ssl_jax.train.run import run

SEEDS = flags.DEFINE_list("seeds", "0,1,2,3,4", "seeds to run")
DATA_DIR = flags.DEFINE_string("data_dir", "", "as config.data.dir")
RESULTS = flags.DEFINE_string(
    "results", "", "for result.json files; default: committed"
)


def seeds() -> list[int]:
    """--seeds; a mistake ends the program with one message."""
    try:
        return paper_table.parse_seeds(SEEDS.value)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def train(config: ConfigDict, workdir: Path) -> dict | None:
    """What launch.py would train, unless it is finished there; None if a signal
    stopped it, and the same command goes on. A user's mistake ends the program."""
    print(f"workdir {workdir}", flush=True)
    config.data.dir = DATA_DIR.value
    try:
        result = run(config, workdir)
    except UserError as error:
        print(f"{config.name}: {error}", file=sys.stderr)
        sys.exit(2)
    if result is not None:
        result["config"]["data"]["dir"] = ""  # this machine's
    return result


def read(folder: Path) -> list[dict]:
    """The result.json files in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
