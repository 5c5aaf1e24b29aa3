"""Figures into their files. What one raises costs no run."""

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Page(NamedTuple):
    """The page of a run (report/page)."""

    path: Path
    result: Path  # what it shows

    def write(self, page: Callable[[], str], *, anew: bool = False) -> None:
        """Writes page(), unless there is one as new as the result, or `anew`. What it
        raises costs no run: it is logged."""
        try:
            if not anew and self._is_new():
                return
            write_atomically(self.path, page())
        except Exception as error:  # as of a figure
            logging.warning(
                "%s is not written (%s: %s); python -m ssl_jax.report %s --html=FILE "
                "writes it elsewhere.",
                self.path,
                type(error).__name__,
                error,
                self.path.parent,
            )

    def _is_new(self):
        there = self.path.exists()
        return there and self.path.stat().st_mtime >= self.result.stat().st_mtime


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
