"""Which image of a data set a line of a file means.

Its name in the data set goes first. Else it may be a path, absolute or relative to the
data folder, which may begin by that folder's own name, with `/` or `\\`; or the name in
another Unicode form, as a spreadsheet on another system writes it; or with U+FFFD in
place of a byte that a spreadsheet could not read. It counts if only one image can be
meant. Where the file lies, or the program was started, plays no part: a run keeps a
copy of the file.
"""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from ssl_jax.errors import UserError


def finder(names: Sequence[str], root: str) -> Callable[[str], str | None]:
    """A function: what a line calls an image -> its name among `names`, None where
    there is no such image.

    It raises UserError where more than one can be meant.

    Args:
      root: the absolute folder that names are relative to; "": none.
    """
    exact = set(names)
    loosely = {}

    def find(image: str) -> str | None:
        for called in (image, image.strip()):
            if called in exact:
                return called
        if not loosely:
            for name in names:
                for form in {_composed(name), _shown(name)}:
                    loosely.setdefault(form, set()).add(name)
        meant = set()
        for path in _paths(image.strip(), root):
            meant |= {path} & exact
            meant |= loosely.get(_composed(path), set())
        if len(meant) > 1:
            raise UserError(
                f"{image!r} may be {' or '.join(map(repr, sorted(meant)[:3]))}; write "
                "the name as it is there."
            )
        return next(iter(meant), None)

    return find


def is_text(name: str) -> bool:
    """Whether it is UTF-8 as a file has it: the name of a file may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _paths(image: str, root: str) -> Iterator[str]:
    """What it may be called in the data set."""
    for path in dict.fromkeys((image, image.replace("\\", "/"))):
        path = os.path.normpath(os.path.expanduser(path))
        yield path
        for folder in dict.fromkeys((root, os.path.realpath(root))) if root else ():
            yield from _below(folder, path)


def _below(folder: str, path: str) -> Iterator[str]:
    """The path relative to `folder`: of one that begins by all of it, or by the last
    of its parts."""
    if path.startswith(folder + os.sep):
        yield path.removeprefix(folder + os.sep)
    parts, own = path.split(os.sep), folder.split(os.sep)
    for n in range(1, min(len(parts), len(own))):
        if parts[:n] == own[-n:]:
            yield os.path.join(*parts[n:])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _shown(name: str) -> str:
    """As a program shows it that knows UTF-8 only."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _composed(text)
