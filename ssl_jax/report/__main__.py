"""Runs in words: a summary for the terminal, and tables of mean +- std over seeds.

python -m ssl_jax.report PATH... [--format=markdown] [--baseline=fixmatch]
    [--figure=all] [--published=FILE.json] [--html=FILE.html]

compares the runs in result.json files, in the tables' files of experiments
(experiments/results/digits_methods.jsonl, say), in folders of such, or in workdirs:
test errors by method, data set and number of labels, with Welch's test against the
baseline, corrected by Holm over the methods of a column, and beside each what was
published. experiments/papers/published.json is such a FILE.

With --html it writes a page instead (report/page), of one workdir or of several, all
that there is of each and how they compare: one file, which asks nobody for anything.
"""

import sys

from absl import app, flags

from ssl_jax.errors import UserError
from ssl_jax.report import tables
from ssl_jax.report.formats import FORMATS
from ssl_jax.workdir import results
from ssl_jax.workdir.files import expanded, write_atomically


def main(argv: list[str], given: flags.FlagValues = flags.FLAGS) -> None:
    """Prints the comparison that the flags, by `parse`, and the paths ask for."""
    if given.html:
        _write_page(argv[1:], given)
        return
    figures = list(tables.FIGURES) if given.figure == "all" else [given.figure]
    try:
        published = tables.read_published(given.published) if given.published else {}
        found = results.read(argv[1:])
        rows = tables.compare(found, given.baseline, published, figures)
        if not rows:
            raise UserError(f"none of these results has {' or '.join(figures)}.")
        methods = sorted({row.method for row in rows})
        if given["baseline"].present and given.baseline not in methods:
            raise UserError(
                f"--baseline={given.baseline} is none of these results' methods; they "
                f"are: {', '.join(methods)}."
            )
    except UserError as error:
        _fail(error)
    print(FORMATS[given.format](rows))


def _write_page(paths, given):
    # Here because the tables need none of it.
    from ssl_jax.report.page import found, written

    baseline = given.baseline if given["baseline"].present else ""
    try:
        page = written.of_workdirs(found.workdirs(paths), baseline)
        write_atomically(expanded(given.html), page)
    except UserError as error:
        _fail(error)
    except OSError as error:
        _fail(
            f"--html={given.html} cannot be written ({error.strerror}): give the name "
            "of a file, such as report.html."
        )
    print(given.html)


def parse(argv: list[str], given: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Defines the flags, which at import would meet other programs', and reads them."""
    given.set_gnu_getopt()  # they may follow the paths
    figures = [*tables.FIGURES, "all"]
    flags.DEFINE_enum("format", "markdown", list(FORMATS), "of the output", given)
    flags.DEFINE_string(
        "baseline", tables.BASELINE, "the method to test against", given
    )
    flags.DEFINE_enum("figure", "all", figures, "which test accuracy", given)
    flags.DEFINE_string("html", "", "a page of the workdirs, into this file", given)
    flags.DEFINE_string("published", "", "JSON file of what was published", given)
    try:
        rest = given(argv)
    except flags.Error as error:
        _fail(error)
    if len(rest) < 2:
        _fail(
            "give result.json files, tables' .jsonl files, folders of such, or "
            "workdirs of runs."
        )
    return rest


def _fail(error):
    print(f"report: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
