"""Labels given by hand: a CSV file with at least the columns `image` and `label`.

`path` may stand for `image`, other columns are ignored, and a row without a label is a
question that is not answered yet. The file is only ever read. It may be as a
spreadsheet writes it: with a byte order mark, CRLF, and `;` or tabs between the fields.
It is UTF-8, but for names of files that are not: those are written as the bytes that
they are.
"""

import csv
import difflib
import io
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from ssl_jax.data import image_names
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.workdir.files import expanded

# What programs write where there is no label; in any case.
NO_LABEL = ("-1", "-1.0", "nan", "unlabeled", "unlabelled")
_DELIMITERS = (",", ";", "\t")
_SHOWN = 20  # names in a message
_COMPARED = 10_000  # names among which the nearest is suggested


Wrong = tuple[int, str]  # a line of the file, and what is wrong with it


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
      UserError: the file cannot be read, or lines of it cannot be taken: which, why,
        and what to do.
    """
    found, wrong = lines(path)
    return match(
        path,
        found,
        dataset.names_N or range(len(dataset.labels_N)),
        dataset.class_names,
        dataset.unreadable,
        allowed_N,
        dataset.labels_N,
        dataset.root,
        gone=gone,
        wrong=wrong,
    )


def rows(path: Path) -> list[Row]:
    """The file's rows, empty ones left out.

    Raises:
      UserError: as `lines`, or lines have another number of columns than the header.
    """
    found, wrong = lines(path)
    _refuse(path, wrong)
    return found


def lines(path: Path) -> tuple[list[Row], list[Wrong]]:
    """The file's rows, empty ones left out; and the lines that have another number of
    columns than the header, which `match` refuses together with others.

    Raises:
      UserError: it cannot be read, or its header lacks a column.
    """
    text = _text(path)
    file = io.StringIO(text, newline="")
    found, wrong, header, line = [], [], [], 1
    try:
        reader = csv.reader(file, delimiter=_delimiter(text), strict=True)
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                image, label = _columns(path, begins, header)
            elif len(cells) != len(header):
                wrong.append(
                    (
                        begins,
                        f" has {len(cells)} columns ({_shortened(cells)}), and the "
                        f"header has {len(header)}: write a name or label that holds "
                        "the separator in double quotes.",
                    )
                )
            else:
                found.append(Row(begins, cells[image], cells[label].strip()))
    except csv.Error as error:
        raise UserError(
            f"{path} line {line}: what begins there is no CSV ({error}); look for a "
            "double quote that is not closed."
        ) from error
    if not header:
        _columns(path, 1, [])
    return found, wrong


def match(
    path: Path,
    rows: Sequence[Row],
    names_N: Sequence[str] | range,
    class_names: Sequence[str],
    unreadable: Collection[str] = (),
    allowed_N: np.ndarray | None = None,
    labels_N: np.ndarray | None = None,
    root: str = "",
    *,
    gone: bool = False,
    wrong: Sequence[Wrong] = (),
) -> Answers:
    """The answers in `rows` (of the file `path`) about the images `names_N`.

    Args:
      unreadable: names about which rows are skipped, and counted in the log.
      allowed_N, gone: as in `read`; the first needs the images' own labels_N.
      labels_N: what is known of the images. Where they have names, it is known to the
        user as well, by the folder that they lie in, and a row must not contradict it.
      root: as in `image_names.finder`.
      wrong: other lines of the file, to be refused too.

    Raises:
      UserError: there is a wrong line; or rows are about no image, a second time about
        one, or about one that is not allowed; or their label is no class, or not the
        one that the image has.
    """
    named = not isinstance(names_N, range)
    index_of = {name: i for i, name in enumerate(names_N)} if named else {}
    find = image_names.finder([*index_of, *unreadable], root)
    first_line, taken, wrong = {}, [], [*wrong]
    skipped, missing, validating = 0, 0, 0
    for line, image, label in rows:
        try:
            if not named:
                index = _row(image.strip(), names_N)
            elif (name := find(image)) is None and gone:
                missing += 1
                continue
            elif name is None:
                raise UserError(_no_image(image, names_N))
            elif name not in index_of:
                skipped += 1
                continue
            else:
                index = index_of[name]
            if index in first_line:
                raise UserError(
                    f"the image {image!r} is on line {first_line[index]} already; "
                    "delete one of the two."
                )
            first_line[index] = line
            if not label:
                continue
            c = _class(label, class_names)
            known = -1 if labels_N is None else int(labels_N[index])
            if allowed_N is not None and not allowed_N[index]:
                if known != c:
                    raise UserError(
                        f"the image {image!r} validates in this run and can't be "
                        "trained on; delete the line, or set "
                        "config.data.num_validation=0."
                    )
                validating += 1
                continue
            if named and known >= 0 and known != c:
                raise UserError(
                    f"the image {image!r} is in the class {class_names[known]!r} of "
                    f"the data set, and {label!r} here; mend the line, or move the "
                    "image."
                )
            taken.append((index, c))
        except UserError as error:
            what = str(error)
            wrong.append((line, what if what.startswith(" ") else f": {what}"))
    _refuse(path, sorted(wrong))
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


def _refuse(path: Path, wrong: Sequence[Wrong]) -> None:
    """Raises UserError with what is wrong, by line, if anything is."""
    if not wrong:
        return
    if len(wrong) == 1:
        ((line, what),) = wrong
        raise UserError(f"{path} line {line}{what}")
    shown = [f"  line {line}{what}" for line, what in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        shown.append(f"  and {len(wrong) - _SHOWN:,} more")
    raise UserError(
        "\n".join([f"{path} has {len(wrong):,} lines that cannot be taken:", *shown])
    )


def _class(label: str, class_names: Sequence[str]) -> int:
    """Which class it is: by name, or by its only other Unicode form."""
    if label in class_names:
        return class_names.index(label)
    form = unicodedata.normalize("NFC", label)
    like = [
        c
        for c, name in enumerate(class_names)
        if unicodedata.normalize("NFC", name.strip()) == form
    ]
    if len(like) == 1:
        return like[0]
    if label.casefold() in NO_LABEL:
        raise UserError(
            f"{label!r} is no class: leave the label empty where there is none."
        )
    if not image_names.is_text(label):
        raise UserError(_not_utf8(label))
    raise UserError(
        f"{label!r} is no class{_nearest(label, class_names)}; the classes are "
        f"{_shortened(class_names)}. Mend the label, or leave it empty."
    )


def _no_image(image: str, names_N: Sequence[str]) -> str:
    if not image_names.is_text(image):
        return _not_utf8(image)
    return (
        f"there is no image {image.strip()!r} in the training pool"
        f"{_nearest(image.strip(), names_N)}; mend the name or delete the line."
    )


def _not_utf8(text: str) -> str:
    """To stand behind the line's number."""
    byte = next(ord(c) & 0xFF for c in text if "\udc80" <= c <= "\udcff")
    return f" is not UTF-8 (byte {byte:#04x}): save the file as CSV UTF-8."


def _text(path: Path) -> str:
    try:
        content = expanded(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"config.data.labels={str(path)!r} cannot be read ({error.strerror}): give "
            "a CSV file with the columns image and label."
        ) from error
    # A name may be any bytes; `match` knows which there are, and refuses others.
    return content.decode("utf-8-sig", "surrogateescape")


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
    if not all(map(image_names.is_text, header)):
        raise UserError(f"{path} line {line}{_not_utf8(''.join(header))}")
    image = "image" if "image" in header else "path"
    if header.count(image) != 1 or header.count("label") != 1:
        raise UserError(
            f"{path} line {line}: the header is {_shortened(header)}, and must have "
            "the columns image (or path) and label, each once: add such a first line."
        )
    return header.index(image), header.index("label")


def _row(image: str, valid: range) -> int:
    if not (image.isascii() and image.isdigit() and int(image) in valid):
        raise UserError(
            f"there is no image {image!r}; this data set's images have no "
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
