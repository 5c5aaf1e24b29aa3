"""What a workdir has for its page. Nothing is computed here, and nothing missing is an
error, but for a folder that is no run's."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.workdir import policy, settings
from ssl_jax.workdir.files import expanded
from ssl_jax.workdir.phase_folder import PhaseFolder
from ssl_jax.workdir.workdir import Workdir

Rows = list[dict]  # of a journal


class Said(NamedTuple):
    """What a phase said at its end of held-out images, one by one."""

    logits: Mapping[str, np.ndarray]  # "val" and "test", where there are: [M, K]
    labels: Mapping[str, np.ndarray]  # likewise: [M]
    rows: np.ndarray  # test images that were kept to be shown
    images_NHWC: np.ndarray  # those, uint8


class Phase(NamedTuple):
    """A section of a run, as far as it came."""

    name: str
    config: Mapping[str, Any]
    seeds: Sequence[Rows]  # its journal, of each seed that was trained; [] if none was
    entry: Mapping[str, Any] | None  # in result.json; None: it is not over
    said: Said | None  # None: it was not kept

    @property
    def trains(self) -> bool:
        return settings.trains(self.config)


class Found(NamedTuple):
    """A run."""

    path: Path
    saved: Mapping[str, Any]  # config.json
    phases: tuple[Phase, ...]
    class_names: tuple[str, ...]  # (): not known yet
    result: Mapping[str, Any] | None  # None: it is not finished
    ablation: Mapping[str, Any] | None  # of --mode=ablate

    @property
    def config(self) -> Mapping[str, Any]:
        return self.saved["config"]

    @property
    def empty(self) -> bool:
        """Whether nothing was logged yet."""
        over = any(phase.entry is not None for phase in self.phases)
        begun = over or any(phase.seeds for phase in self.phases)
        return self.result is None and not begun


def workdirs(paths: Sequence[str | Path]) -> list[Path]:
    """The workdirs that are meant: each of `paths` is one, or a folder of some, where
    a search of --mode=tune is none.

    Raises:
      UserError: a path is neither.
    """
    found = []
    for path in map(expanded, paths):
        inside = sorted(file.parent for file in path.glob(f"*/{settings.CONFIG}"))
        inside = [each for each in inside if not (each / policy.SEARCH).exists()]
        if (path / settings.CONFIG).exists() or not inside:
            settings.of_run(path)  # or says what is wrong with it
            inside = [path]
        found += inside
    return list(dict.fromkeys(found))


def run(path: str | Path) -> Found:
    """The run in a workdir, finished or not.

    Raises:
      UserError: the folder is no run's, or a file of it cannot be read.
    """
    path = expanded(path)
    settings.of_run(path)  # or says what is wrong with it
    workdir, saved = Workdir(path), settings.saved(path)
    seeds_of = {}  # phase -> seed -> rows
    for row in workdir.journal.rows():
        of_phase = seeds_of.setdefault(row["phase"], {})
        of_phase.setdefault(row.get("seed", saved["config"]["seed"]), []).append(row)
    phases = tuple(
        Phase(
            name,
            saved["config"][name],
            list(seeds_of.get(name, {}).values()),
            (folder := workdir.phase(name)).done,
            _said(folder),
        )
        for name in saved["config"]["phases"]
    )
    result = workdir.result
    data = workdir.began_with
    names = list(result["data"]["classes"]) if result and "data" in result else ()
    names = names or (data.class_names if data is not None else ())
    return Found(path, saved, phases, tuple(names), result, workdir.ablation.found)


def _said(folder: PhaseFolder) -> Said | None:
    if not folder.said.exists():
        return None
    try:
        with folder.said.open("rb") as file, np.load(file) as saved:
            of = {
                kind: {
                    name: saved[key]
                    for name in ("val", "test")
                    if (key := f"{name}_{kind}") in saved
                }
                for kind in ("logits_MK", "labels_M")
            }
            shown = saved["rows"], saved["images_NHWC"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{folder.said} cannot be read ({error}): delete it, and the page is made "
            "without what it holds."
        ) from error
    return Said(of["logits_MK"], of["labels_M"], *shown)
