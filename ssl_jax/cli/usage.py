"""What `launch.py --help` says. Nothing is run for it but the list of methods."""

import ast
import re
import textwrap
from collections.abc import Iterable

from ssl_jax.cli import config_files

# What each of modes.py does; kept apart, as importing that takes seconds.
MODES = {
    "train": "trains what the config says, or goes on where the workdir's run stopped",
    "ablate": "trains the run without each of its parts, and tells what each adds",
    "tune": "looks for better settings on labels held out: policy.json in the workdir",
    "probe": "judges the features of the run in the workdir so far, by linear probes",
    "query": "asks for the labels that would tell the run most: a CSV file to fill in",
    "predict": "labels the images of --config.predict.dir by the run in the workdir",
    "embed": "writes the features that it, or a file of weights, has of them",
    "export": "writes the run's network for where there is no ssl_jax",
    "analyze": "looks at the data and says how long the run would take; trains nothing",
}
USAGE = """\
python launch.py --config=digits:flexmatch [--config.FIELD=VALUE] [--workdir=W]

  --config=NAME[:word,word]  of the configs below, or FILE.py[:word,word]
  --config.FIELD=VALUE       another value, as --config.train.steps=1e3;
                             configs/base.py explains the fields
  --workdir=W                of the run: runs/<name>-seed<seed>, if not given
  --mode=MODE                what to do, train if not given
  --coordinator=HOST:PORT --num_processes=N --process_id=I
                             of several hosts; SLURM's srun needs none
  --helpfull                 the flags of all libraries\
"""


def is_asked(argv: list[str]) -> bool:
    return not {"--help", "-help", "-h", "--h"}.isdisjoint(argv[1:])


def text() -> str:
    """The flags, the modes, and every config and method with its first sentence."""
    data_sets, experiments = config_files.kinds()
    of_configs = {name: _about("configs", name) for name in data_sets + experiments}
    parts = [
        USAGE,
        _listed("modes:", MODES, MODES),
        _listed(f"{config_files.DATA_SETS}:", data_sets, of_configs),
        _listed(
            "methods:",
            methods := config_files.methods(),
            {name: _about("ssl_jax/algorithms", name) for name in methods},
        ),
        _listed("experiments:", experiments, of_configs),
    ]
    return "\n\n".join(parts)


def _about(folder, name):
    """The first sentence of a module's docstring, the module unread otherwise; of one
    that lies elsewhere, ""."""
    file = config_files.ROOT / folder / f"{name}.py"
    said = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else ""
    paragraph = " ".join((said or "").partition("\n\n")[0].split())
    return re.sub(r"\.\s.*", "", paragraph).removesuffix(".")


def _listed(title: str, names: Iterable[str], about: dict[str, str]) -> str:
    names = list(names)
    indent = 4 + max(map(len, names))
    rows = [
        textwrap.fill(
            f"  {name:{indent - 2}}{about[name]}".rstrip(),
            width=80,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        for name in names
    ]
    return "\n".join([title, *rows])
