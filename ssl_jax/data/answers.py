"""Labels given by hand: a CSV file with at least the columns `image` and `label`.

`path` may stand for `image`, other columns are ignored, and a row without a label is a
question that is not answered yet. The file is only ever read. It may be as a
spreadsheet writes it: with a byte order mark, CRLF, and `;` or tabs between the fields.
"""

import csv
import difflib
import io
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.workdir.files import expanded

_DELIMITERS = (",", ";", "\t")
_SHOWN = 20  # names in a message
_COMPARED = 10_000  # names among which the nearest is suggested


class Row(NamedTuple):
    """One line of the file, as it stands there but for spaces around the label."""

    line: int  # from 1; of a row over several lines, the first
    image: str
    label: str


class Answers(NamedTuple):
    """The answered questions, in the order of the file."""

    index_n: np.ndarray  # int32: rows of the training pool
    label_n: np.ndarray  # int32


def read(
    path: Path,
    dataset: Dataset,
    allowed_N: np.ndarray | None = None,
    *,
    gone: bool = False,
) -> Answers:
    """The answers in the file `path` about images of the training pool.

    An image is called by its name in `dataset.names_N`, or by its row where the data
    set has no names. Rows about images that were left out of the pool because they
    cannot be decoded are skipped, and counted in the log.

    Args:
      allowed_N: False where an answer is not taken: an image that validates. A row
        that gives its own label is left out, and counted in the log.
      gone: whether images may be gone since the file was written: rows about those are
        skipped, and counted in the log.

    Raises:
      UserError: the file cannot be read, or a line of it cannot be taken: which, why,
        and what to do.
    """
    return match(
        path,
        rows(path),
        dataset.names_N or range(len(dataset.labels_N)),
        dataset.class_names,
        dataset.unreadable,
        allowed_N,
        dataset.labels_N,
        gone=gone,
    )


def rows(path: Path) -> list[Row]:
    """The file's rows, empty ones left out.

    Raises:
      UserError: it cannot be read, its header lacks a column, or a line has another
        number of columns than the header.
    """
    text = _text(path)
    lines = io.StringIO(text, newline="")
    found, header, line = [], [], 1
    try:
        reader = csv.reader(lines, delimiter=_delimiter(text), strict=True)
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                image, label = _columns(path, begins, header)
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path} line {begins} has {len(cells)} columns "
                    f"({_shortened(cells)}), and the header has {len(header)}: write a "
                    "name or label that holds the separator in double quotes."
                )
            found.append(Row(begins, cells[image], cells[label].strip()))
    except csv.Error as error:
        raise UserError(
            f"{path} line {line}: what begins there is no CSV ({error}); look for a "
            "double quote that is not closed."
        ) from error
    if not header:
        _columns(path, 1, [])
    return found


def match(
    path: Path,
    rows: Sequence[Row],
    names_N: Sequence[str] | range,
    class_names: Sequence[str],
    unreadable: Container[str] = (),
    allowed_N: np.ndarray | None = None,
    labels_N: np.ndarray | None = None,
    *,
    gone: bool = False,
) -> Answers:
    """The answers in `rows` (of the file `path`) about the images `names_N`.

    Args:
      unreadable: names about which rows are skipped, and counted in the log.
      allowed_N, gone: as in `read`; the first needs the images' own labels_N.

    Raises:
      UserError: a row is about no image, a second time about one, or about one that is
        not allowed; or its label is no class.
    """
    if isinstance(names_N, range):
        index_of = {}
    else:
        index_of = {name: index for index, name in enumerate(names_N)}
    first_line, taken, skipped, missing, validating = {}, [], 0, 0, 0
    for line, image, label in rows:
        where = f"{path} line {line}"
        image = image if image in index_of else image.strip()
        if image in unreadable:
            skipped += 1
            continue
        if isinstance(names_N, range):
            index = _row(where, image, names_N)
        elif image in index_of:
            index = index_of[image]
        elif gone:
            missing += 1
            continue
        else:
            raise UserError(
                f"{where}: there is no image {image!r} in the training pool"
                f"{_nearest(image, names_N)}; mend the name or delete the line."
            )
        if index in first_line:
            raise UserError(
                f"{where}: the image {image!r} is on line {first_line[index]} already; "
                "delete one of the two."
            )
        first_line[index] = line
        if not label:
            continue
        if label not in class_names:
            raise UserError(
                f"{where}: {label!r} is no class{_nearest(label, class_names)}; the "
                f"classes are {_shortened(class_names)}. Mend the label, or leave it "
                "empty."
            )
        if allowed_N is not None and not allowed_N[index]:
            if labels_N[index] == class_names.index(label):
                validating += 1
                continue
            raise UserError(
                f"{where}: the image {image!r} validates in this run and can't be "
                "trained on; delete the line, or set config.data.num_validation=0."
            )
        taken.append((index, class_names.index(label)))
    if skipped:
        logging.warning(
            "%s: skipped %d rows about images that cannot be read.", path, skipped
        )
    if missing:
        logging.warning(
            "%s: skipped %d rows about images that are not there now.", path, missing
        )
    if validating:
        logging.warning(
            "%s: left out %d rows about images that validate.", path, validating
        )
    pairs_n2 = np.asarray(taken, np.int32).reshape(-1, 2)
    return Answers(pairs_n2[:, 0], pairs_n2[:, 1])


def _text(path: Path) -> str:
    try:
        content = expanded(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"config.data.labels={str(path)!r} cannot be read ({error.strerror}): give "
            "a CSV file with the columns image and label."
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} line {line} is not UTF-8 (byte {content[error.start]:#04x}): save "
            "the file as CSV UTF-8."
        ) from error


def _delimiter(text: str) -> str:
    """The one by which the header, the first line that is not blank, has both columns;
    the comma where none gives them."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([header], delimiter=delimiter), [])
        names = {cell.strip().lower() for cell in cells}
        if "label" in names and names & {"image", "path"}:
            return delimiter
    return _DELIMITERS[0]


def _columns(path: Path, line: int, header: list[str]) -> tuple[int, int]:
    """Where the header has the image and the label."""
    image = "image" if "image" in header else "path"
    if header.count(image) != 1 or header.count("label") != 1:
        raise UserError(
            f"{path} line {line}: the header is {_shortened(header)}, and must have "
            "the columns image (or path) and label, each once: add such a first line."
        )
    return header.index(image), header.index("label")


def _row(where: str, image: str, valid: range) -> int:
    if not (image.isascii() and image.isdigit() and int(image) in valid):
        raise UserError(
            f"{where}: there is no image {image!r}; this data set's images have no "
            f"names, and are called by their row in the training pool, 0 to "
            f"{len(valid) - 1}. Mend the number or delete the line."
        )
    return int(image)


def _nearest(text: str, names: Sequence[str]) -> str:
    file = text.rpartition("/")[2]
    moved = [name for name in names if name.rpartition("/")[2] == file]
    # Comparing with a million names would take minutes.
    close = moved or difflib.get_close_matches(text, names[:_COMPARED], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN])) or "empty"
    more = len(names) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown
