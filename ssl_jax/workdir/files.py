"""Files of which a killed process leaves the old one or the new one, never a half."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ssl_jax.errors import UserError


def expanded(path: str | Path) -> Path:
    """The path with the home folder for a `~` that it begins with: a shell leaves that
    as it is behind `--workdir=`.

    Raises:
      UserError: there is no such user, and a folder called so would be made.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UserError(
            f"{path}: there is no user {found.split(os.sep)[0][1:]!r}; give the whole "
            f"path, or ./{path} for what is called so here."
        )
    return Path(found)


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", **options: Any) -> Iterator[IO]:
    """Yields a file beside `path`, which takes its name when the block ends; after an
    exception `path` is as it was.

    Args:
      mode, **options: of `open`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    try:
        with beside.open(mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the name without text
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    # File names may hold bytes that are no text.
    with replacing(path, encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def write_figure(path: Path, figure: Any) -> None:
    """A matplotlib Figure as PNG, its texts as they are (`lettering.literal`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not for every start

    from ssl_jax.workdir import lettering

    lettering.literal(figure)
    # Not savefig: it draws a figure with a layout once more, to no effect.
    figure.set_dpi(150)
    with replacing(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
