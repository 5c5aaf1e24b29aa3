"""Every generated table of the documents, from the results alone: nothing is trained.

python -m experiments.readme           # README.md, every other *.md here and in docs/
python -m experiments.readme --check   # only says which differ, with status 1

A document has a table's name, the table, and its end:

<!-- digits -->
| labels | ...
<!-- end -->

A table may stand in several documents or in none. Imports no JAX.
"""

import difflib
import importlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.workdir import results
from ssl_jax.workdir.files import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"


class Source(NamedTuple):
    """What writes a table."""

    of: str  # <of>.jsonl has the results
    module: str  # in experiments/
    function: str = "table"  # the results by their runs' names -> text
    may_lack: bool = False  # results: then it says itself that nothing is measured


TABLES = {  # by the name in the documents
    "quickstart": Source("few_labels", "tables.few_labels", "quickstart"),
    "digits": Source("few_labels", "tables.few_labels", "digits"),
    "mnist": Source("few_labels", "tables.few_labels", "mnist"),
    "digits_methods": Source("digits_methods", "tables.digits_methods"),
    "published": Source("digits_methods", "papers.published"),
    "pseudo_label_mnist": Source("pseudo_label_mnist", "tables.pseudo_label_mnist"),
    "cifar10_small": Source("cifar10_small", "tables.cifar10_small"),
    "imbalance_digits": Source(
        "imbalance", "tables.imbalance", "digits", may_lack=True
    ),
    "imbalance_cifar10": Source(
        "imbalance", "tables.imbalance", "cifar10", may_lack=True
    ),
    "byol_digits": Source("byol_digits", "tables.byol_digits"),
    "byol_cifar10_small": Source("byol_cifar10_small", "tables.byol_cifar10_small"),
    "representations_digits": Source(
        "representations", "tables.representations", "digits", may_lack=True
    ),
    "representations_cifar10": Source(
        "representations", "tables.representations", "cifar10", may_lack=True
    ),
    "autoencoder": Source("autoencoder_mnist", "tables.autoencoder_mnist"),
    "no_labels": Source("no_labels", "tables.no_labels", may_lack=True),
    "ten_labels": Source("ten_labels", "tables.ten_labels", may_lack=True),
    "two_phase_cifar10": Source(
        "two_phase_cifar10", "tables.two_phase_cifar10", may_lack=True
    ),
    "auto_photos": Source("auto_photos", "tables.auto_photos", may_lack=True),
    "active_digits": Source("active_digits", "tables.active_digits"),
    "gcn_cora": Source("gcn_cora", "tables.gcn_cora"),
    "benchmark": Source("benchmark", "speed.tables", "benchmark"),
    "peers": Source("peers", "speed.tables", "peers", may_lack=True),
    "peers_all": Source("peers", "speed.tables", "peers_all", may_lack=True),
    "stream_speed": Source("stream_speed", "speed.tables", "streams", may_lack=True),
    "first_step": Source("first_step", "speed.start_tables", "first_step"),
    "before": Source("before", "speed.start_tables", "before", may_lack=True),
    "race": Source("race", "speed.start_tables", "race", may_lack=True),
    "benchmark_gcn": Source("benchmark_gcn", "speed.tables", "gcn"),
    "scaling_inputs": Source("scaling", "speed.scaling_tables", "inputs"),
    "scaling_step": Source("scaling", "speed.scaling_tables", "step"),
    "scaling_memory": Source("scaling", "speed.scaling_tables", "memory"),
    "scaling_time": Source("scaling", "speed.scaling_tables", "time"),
    "label_spreading_scale": Source(
        "label_spreading_scale", "speed.tables", "label_spreading"
    ),
}


def main(argv: list[str]) -> int:
    """The program; its status."""
    if argv not in ([], ["--check"]):
        print(f"readme: {' '.join(argv)!r} is not --check, the one flag.")
        return 2
    try:
        changed = fill(check=bool(argv))
    except UserError as error:
        print(f"readme: {error}", file=sys.stderr)
        return 2
    print("\n".join(changed) or "The documents have the tables of the results.")
    return int(bool(argv and changed))


def fill(root: Path = ROOT, folder: Path = RESULTS, *, check: bool = False) -> list:
    """Writes the tables anew into each document of `root`, and of its docs/.

    Args:
      check: only says what would change.

    Returns:
      Of each document that changes, the lines that do.

    Raises:
      UserError: `filled`'s.
    """
    changed = []
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        after = filled(before, folder, str(path.relative_to(root)))
        if after == before:
            continue
        if not check:
            write_atomically(path, after)
        lines = before.splitlines(), after.splitlines()
        names = [str(path.relative_to(root))] * 2
        changed.append(
            "\n".join(difflib.unified_diff(*lines, *names, n=0, lineterm=""))
        )
    return changed


def documents(root: Path = ROOT) -> list[Path]:
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


def filled(text: str, folder: Path = RESULTS, name: str = "the document") -> str:
    """The document with what the results say between the markers.

    Raises:
      UserError: a name is unknown, or its end is missing; results are missing.
    """

    def anew(match):
        table, between = match[1], match[2]
        if between is None or "\n<!-- " in f"\n{between}":
            raise UserError(f"{name}: <!-- {table} --> has no <!-- end -->.")
        return f"<!-- {table} -->\n{written(table, folder)}\n<!-- end -->"

    form = r"^<!-- (?!end )(\w+) -->$(?:\n(.*?)^<!-- end -->$)?"
    return re.sub(form, anew, text, flags=re.S | re.M)


def written(table: str, folder: Path = RESULTS) -> str:
    """The table of this name.

    Raises:
      UserError: there is none, or no result for it.
    """
    if table not in TABLES:
        raise UserError(f"<!-- {table} --> is none of: {', '.join(sorted(TABLES))}.")
    source = TABLES[table]
    path = folder / f"{source.of}.jsonl"
    found = results.read_table(path)
    if not (found or source.may_lack):
        raise UserError(f"{path}, for <!-- {table} -->, has no results.")
    module = importlib.import_module(f"experiments.{source.module}")
    return getattr(module, source.function)(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
