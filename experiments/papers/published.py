"""What was published of the semi-supervised methods, and ours on digits above it.

published.json has the numbers. Imports no JAX.
"""

from collections.abc import Iterator
from pathlib import Path

from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

FILE = Path(__file__).parent / "published.json"
JUDGED = {
    "accuracy": "last checkpoint",
    "accuracy_median20": "median of the last 20",
    "accuracy_best_on_test": "best on test",
}
# Of docs/methods.md: (data set, labels) -> its head.
COLUMNS = {
    ("digits", "40"): "digits, 40",
    ("cifar10", "40"): "CIFAR-10, 40",
    ("cifar10", "250"): "250",
    ("cifar10", "4000"): "4,000",
    ("stl10", "1000"): "STL-10, 1,000",
}


def table(results: Table) -> str:
    """Markdown: of each method what it reaches here on digits, by `results`, which are
    digits_methods's; and below it a row for each source and figure."""
    found = [result for runs in results.values() for result in runs]
    ours = {row.method: row for row in tables.compare(found, figures=["accuracy"])}
    published = tables.read_published(FILE)
    methods = dict.fromkeys([*ours, *(m for of in published.values() for m in of)])
    lines = []
    for method in sorted(methods):
        if method in ours:
            cell = formats.mean_std(ours[method].errors, scale=1)
            cells = {("digits", "40"): cell}
            lines.append(_line(method, "here", JUDGED["accuracy"], cells))
        lines += _published(published, method)
    header = ["method", "source", "judged by", *COLUMNS.values()]
    caption = "Test error in %, mean ± std (seeds) of ours, by number of labels:"
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


def _published(published: tables.Published, method: str) -> Iterator[list[str]]:
    cells = {}
    for column in COLUMNS:
        data, labels = column
        for entry in published.get(data, {}).get(method, {}).get(labels, ()):
            std = f" ± {entry['std']:.2f}" if "std" in entry else ""
            at = entry["source"], entry["figure"]
            cells.setdefault(at, {})[column] = f"{entry['error']:.2f}{std}"
    for (source, figure), of_source in cells.items():
        yield _line(method, source, JUDGED[figure], of_source)


def _line(method, source, judged, cells):
    return [method, source, judged, *(cells.get(column, "") for column in COLUMNS)]
