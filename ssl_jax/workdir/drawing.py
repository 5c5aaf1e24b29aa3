"""Figures into their files. What one raises costs no run."""

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ssl_jax.workdir.files import write_atomically, write_figure

FAILED = ".failed.txt"  # in a figure's place: why it could not be drawn

Drawing = Callable[[], Any]  # of a matplotlib Figure


def draw(folder: Path, of: str, figures: Mapping[str, Drawing]) -> None:
    """<folder>/<of>_<kind>.png of each; or what it raised, as <of>_<kind>.failed.txt,
    until it is drawn."""
    for kind, figure in figures.items():
        path = folder / f"{of}_{kind}.png"
        failed = path.with_name(f"{of}_{kind}{FAILED}")
        if why := _not_drawn(path, figure):
            # A disk that is full has no room for this either.
            with contextlib.suppress(OSError):
                write_atomically(failed, why)
        else:
            failed.unlink(missing_ok=True)


def draw_pages(folder: Path, name: str, pages: Sequence[Drawing]) -> list[Path]:
    """<folder>/<name>.png, <name>_2.png and so on, in place of those of an earlier
    call; those that could be drawn."""
    for old in (folder / f"{name}.png", *folder.glob(f"{name}_[0-9]*.png")):
        old.unlink(missing_ok=True)
    paths = [
        folder / (f"{name}_{number}.png" if number > 1 else f"{name}.png")
        for number in range(1, len(pages) + 1)
    ]
    return [
        path
        for path, page in zip(paths, pages, strict=True)
        if not _not_drawn(path, page)
    ]


def as_new(path: Path, of: Path) -> bool:
    """Whether the file `path` is there, and no older than the file `of`."""
    return path.exists() and path.stat().st_mtime >= of.stat().st_mtime


def write_page(path: Path, page: Callable[[], str]) -> None:
    """Writes page() into the file `path`. What it raises is logged."""
    try:
        write_atomically(path, page())
    except Exception as error:  # as of a figure
        logging.warning(
            "%s is not written (%s: %s); python -m ssl_jax.report %s --html=FILE "
            "writes it elsewhere.",
            path,
            type(error).__name__,
            error,
            path.parent,
        )


def _not_drawn(path: Path, figure: Callable[[], Any]) -> str | None:
    """Draws figure() into the file `path`; else says so in the log, and returns the
    traceback."""
    try:
        write_figure(path, figure())
        return None
    except Exception as error:  # whatever it is, a figure is not worth a run
        logging.warning(
            "%s is not drawn (%s: %s); all else goes on, and the same command draws it "
            "once more.",
            path,
            type(error).__name__,
            error,
        )
        return traceback.format_exc()
