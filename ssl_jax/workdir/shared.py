"""A run's folder where several processes train it: process 0 has it, and writes.

The others may not even see it: their disk may be another. Each has a folder of its own
for temporary files instead, which begins with what process 0 found, and in which the
same lines then read and write. So whether a run goes on, from which step, what is over
and what is refused is the same for all; checkpoints alone, which are large, are not
there, but read and written by process 0 for all (checkpoints.py).
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.core import processes
from ssl_jax.errors import UserError
from ssl_jax.workdir import settings
from ssl_jax.workdir.phase_folder import PSEUDO_LABELS
from ssl_jax.workdir.workdir import LABELS, Workdir


@contextlib.contextmanager
def entered(
    path: Path,
    config: Mapping,
    device: Mapping,
    verdicts: Callable[[Workdir], Mapping[str, str]],
) -> Iterator[Workdir]:
    """`Workdir.open` on process 0, and what it found on the others.

    Args:
      verdicts: of the folder as it is there.

    Raises:
      UserError: as `Workdir.open`, on all of them; or this process was given another
        configuration than process 0.
    """
    with contextlib.ExitStack() as until_left:

        def opened():
            own = Workdir.open(path, config, device, verdicts(Workdir(path)))
            return until_left.enter_context(own)

        if processes.count() == 1:
            yield opened()
            return
        theirs = processes.of_first(lambda: settings.plain(config))
        if differ := settings.differences(theirs, config, at_once=True):
            raise UserError(
                "\n".join(
                    [
                        f"process {processes.index()} was given another configuration "
                        "(here) than process 0 (there):",
                        *(f"  {field}" for field in differ),
                        "Start all of them by the same command.",
                    ]
                )
            )
        workdir = None

        def found():
            nonlocal workdir
            workdir = opened()
            return _small_files(workdir.path), workdir.resumed

        files, resumed = processes.of_first(found)
        if workdir is None:
            folder = Path(tempfile.mkdtemp(prefix="ssl_jax_"))
            until_left.callback(shutil.rmtree, folder, ignore_errors=True)
            _write(folder, files)
            workdir = Follower(folder)
            workdir.resumed = resumed
        yield workdir


class Follower(Workdir):
    """What a process other than 0 has in its place."""

    writes = False

    def labels(self, config: Mapping, *, compare: bool = True) -> str:
        """Process 0's copy: here the given one may not be."""
        copy = self.path / LABELS
        return str(copy) if copy.exists() else super().labels(config, compare=False)

    def draw(self, of: str, figures: Mapping[str, Callable[[], Any]]) -> None:
        """Computes the figures, which may take all devices, and keeps none."""
        for figure in figures.values():
            # What one raises, it raises on process 0 as well, which tells of it.
            with contextlib.suppress(Exception):
                figure()

    def draw_pages(self, name: str, pages: Sequence[Callable[[], Any]]) -> list[Path]:
        self.draw(name, dict(enumerate(pages)))
        return []


def _small_files(folder):
    """{name in the folder: its bytes; None where it is a folder}; of files that are
    only looked for, nothing but that they are there."""
    found = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = None
            if path.name == "checkpoints":
                found |= {f"{name}/{step.name}": None for step in path.iterdir()}
        else:
            read = path.suffix in (".json", ".jsonl", ".csv")
            read |= path.name == PSEUDO_LABELS
            found[name] = np.frombuffer(path.read_bytes() if read else b"", np.uint8)
    return found


def _write(folder, files):
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content.tobytes())
