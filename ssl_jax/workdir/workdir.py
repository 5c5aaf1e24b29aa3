"""A run's folder: how it is entered, and every name in it.

Entering is one ritual, whatever runs there: a configuration that is not the folder's is
refused, a finished run is only read, another process is kept out, answers are copied,
data that has changed is told of, and a mistake leaves no new folder behind.
"""

import contextlib
import glob
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.workdir import drawing, inventory, settings
from ssl_jax.workdir.ablation_folder import AblationFolder
from ssl_jax.workdir.files import expanded, replacing, write_json
from ssl_jax.workdir.inventory import Inventory
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.lock import LOCK, held
from ssl_jax.workdir.phase_folder import PhaseFolder
from ssl_jax.workdir.results import RESULT, ROUND, git_state, versions

LABELS, ANALYSIS = "labels.csv", "analysis.json"
# Written before anything is trained.
_ENTERED = {settings.CONFIG, LOCK, LABELS, inventory.FILE, ANALYSIS}


class Workdir:
    """What is in the folder `path`. To train there, use `Workdir.open`."""

    writes = True  # not so of shared.Follower

    def __init__(self, path: Path):
        self.path = expanded(path)
        self.resumed = 0  # how often it was entered before
        self._copied = False  # whether `labels.csv` is this launch's copy

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        path: Path,
        config: Mapping,
        device: Mapping | None = None,
        verdicts: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator["Workdir"]:
        """Creates the folder for the run `config`, or enters it again, and keeps other
        processes out. Where the run is finished nothing is written, and `result` is
        there; where a figure of it is left to draw, nothing but that; and a phase that
        is over goes on where `config` has more steps.

        Args:
          device: what trains, for config.json.
          verdicts: as `check`.

        Raises:
          UserError: the folder cannot be written, another process trains in it, or it
            belongs to another configuration or to other answers. Where nothing was
            trained, what this wrote goes again when the block ends by an exception.
        """
        workdir = cls(path)
        workdir.check(config, verdicts=verdicts)
        workdir.labels(config)
        left = workdir.undrawn() or workdir._going_on(config)
        if workdir.result is not None and not left:
            yield workdir
            return
        with contextlib.ExitStack() as until_left:
            with explained(workdir.path):
                places = (workdir.path, *workdir.path.parents)
                made = [place for place in places if not place.exists()]
                workdir.path.mkdir(parents=True, exist_ok=True)
                until_left.enter_context(held(workdir.path))
            # Again: that process may have just ended.
            workdir.check(config, verdicts=verdicts)
            try:
                for phase in workdir._going_on(config):
                    (workdir.path / RESULT).unlink(missing_ok=True)
                    phase.marker.unlink()
                if workdir.result is None:
                    with explained(workdir.path):
                        workdir._enter(config, device)
                yield workdir
            except BaseException:
                workdir._leave_untouched(made)
                raise

    def check(
        self,
        config: Mapping,
        *only: str,
        verdicts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Refuses a folder that belongs to another configuration; writes nothing.

        Args:
          *only: the sections that must agree, such as "model"; all by default.
          verdicts: fields that may differ, with "", or with why they may not
            (train/extended.py).

        Raises:
          UserError: the configurations differ in something that changes the result, or
            the folder is a file.
        """
        with explained(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UserError(
                    f"workdir {self.path} is a file; give another --workdir."
                )
            saved = settings.saved(self.path)
        if saved is None or not self.begun:
            return
        changes = settings.differences(
            saved["config"], config, *only, verdicts=verdicts
        )
        if changes:
            raise UserError(
                "\n".join(
                    [
                        f"workdir {self.path} belongs to another configuration:",
                        *(f"  {change}" for change in changes),
                        "Give another --workdir, or the configuration that is there.",
                    ]
                )
            )

    def labels(self, config: Mapping, *, compare: bool = True) -> str:
        """The file data.labels as it was when the run began, as the one that the user
        gave may have moved, or hold more answers now; the given one before.

        Args:
          compare: whether to refuse a file that has changed, as a launch must.

        Raises:
          UserError: it has.
        """
        own, given = self.path / LABELS, config["data"]["labels"]
        if given:
            given = str(expanded(given))
        if not own.exists() or not self.begun:
            return given
        now = Path(given)
        if compare and now.exists() and now.read_bytes() != own.read_bytes():
            raise UserError(
                f"{given} has other answers than those that workdir {self.path} began "
                "with: give another --workdir to train with them."
            )
        return str(own)

    def changes(
        self, data: Inventory, *, accepted: bool, drawn: bool = False
    ) -> list[str]:
        """How the data differ from those that the run began with: by classes, names of
        images, labels and numbers. Nothing where they are the same.

        Args:
          accepted: whether images may have come and gone, or got other labels.
          drawn: as in `inventory.changes`.

        Raises:
          UserError: they differ, and it is not accepted, or the run cannot go on.
        """
        saved = settings.saved(self.path)
        if saved is None or saved.get("data", data.digest) == data.digest:
            return []
        found = inventory.changes(self.began_with, data, drawn=drawn)
        grave = any(change.grave for change in found)
        if accepted and not grave:
            return [change.what for change in found]
        accept = "" if grave else ", go on by --config.data.changed=accept"
        told = [
            f"{data.name} is not as it was when workdir {self.path} began:",
            *(f"  {change.what}" for change in found),
            f"Bring that back{accept}, or train anew in another --workdir.",
        ]
        raise UserError("\n".join(told))

    @property
    def began_with(self) -> Inventory | None:
        """The data that the run trains on; None of one by an older version."""
        return inventory.read(self.path / inventory.FILE)

    def remember_data(self, data: Inventory) -> None:
        """Notes what the run trains on from now on."""
        if self.result is None:
            saved = settings.saved(self.path)
            inventory.write(self.path / inventory.FILE, data)
            write_json(self.path / settings.CONFIG, saved | {"data": data.digest})

    @property
    def begun(self) -> bool:
        """Whether anything was trained here. What only entered, and was killed as it
        read its data, binds nobody."""
        there = self.path.iterdir() if self.path.is_dir() else ()
        return not {path.name for path in there} <= _ENTERED

    @property
    def config(self) -> dict | None:
        """The configuration that it was entered with last; None without one.

        Raises:
          UserError: it cannot be read.
        """
        with explained(self.path):
            saved = settings.saved(self.path)
        return None if saved is None else saved["config"]

    @property
    def command(self) -> list[str]:
        """The command line that entered it last."""
        return settings.saved(self.path)["command"]

    @property
    def result(self) -> dict | None:
        """The contents of result.json; None unless every phase is over."""
        saved, path = settings.saved(self.path), self.path / RESULT
        if saved is None or not path.exists():
            return None
        phases = saved["config"]["phases"]
        if any(self.phase(name).done is None for name in phases):
            # A simulation has rounds, each with its phases.
            if not saved["config"].get("query", {}).get("rounds", 0):
                return None
        return json.loads(path.read_text())

    def finish(self, result: dict) -> dict:
        """Writes result.json, and returns it."""
        write_json(self.path / RESULT, result)
        return result

    def phase(self, name: str) -> PhaseFolder:
        return PhaseFolder(self.path / name)

    def round(self, number: int) -> "Round":
        """The folder of a training of a simulation, a run's workdir (active/rounds)."""
        return Round(self.path / f"round{number}")

    @property
    def journal(self) -> Journal:
        return Journal(self.path / "metrics.jsonl")

    @property
    def queries(self) -> Path:
        return self.path / "queries.csv"

    def new_file(self, name: str, suffix: str) -> Path:
        """predictions.csv, or predictions_2.csv and so on: the first that is not there,
        so that no answer about other images is written over."""
        path, number = self.path / f"{name}{suffix}", 1
        while path.exists():
            number += 1
            path = self.path / f"{name}_{number}{suffix}"
        return path

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def write_probe(self, result: dict) -> None:
        write_json(self.path / "probe.json", result)

    def write_analysis(self, found: dict) -> Path:
        """Writes what the data are like, beside a run that may come or be there.

        Raises:
          UserError: the folder cannot be written.
        """
        path = self.path / ANALYSIS
        with explained(self.path):
            write_json(path, found)
        return path

    @property
    def page(self) -> drawing.Page:
        return drawing.Page(self.path / "report.html", self.path / RESULT)

    @property
    def ablation(self) -> AblationFolder:
        return AblationFolder(self.path / "ablation")

    def draw(self, of: str, figures: Mapping[str, Callable[[], Any]]) -> None:
        """Draws by each function a matplotlib Figure, as figures/<of>_<kind>.png.

        What a figure raises costs no run: it is logged, and its traceback lies in the
        figure's place, as <of>_<kind>.failed.txt, until a launch has drawn it.
        """
        drawing.draw(self.figures, of, figures)

    def undrawn(self, *of: str) -> bool:
        """Whether `draw` has failed to draw a figure of those, or of anything that the
        run draws, so that a launch should draw again."""
        saved = settings.saved(self.path)
        if not of and saved is not None:
            of = (*saved["config"]["phases"], "phases", saved["config"]["name"])
        return any(
            any(
                self.path.glob(f"{folder}figures/{glob.escape(name)}_*{drawing.FAILED}")
            )
            for name in of
            for folder in ("", "round*/")
        )

    def drawn(self, of: str, kinds: Iterable[str]) -> dict[str, Path]:
        """The files that `draw` has written, by their names without .png."""
        names = [f"{of}_{kind}" for kind in kinds]
        files = {name: self.figures / f"{name}.png" for name in names}
        return {name: file for name, file in files.items() if file.exists()}

    def draw_pages(self, name: str, pages: Sequence[Callable[[], Any]]) -> list[Path]:
        """Draws Figures as figures/<name>.png, <name>_2.png and so on, and returns
        the files; pages of an earlier call go. One that cannot be drawn is logged and
        left out."""
        return drawing.draw_pages(self.figures, name, pages)

    def _going_on(self, config):
        """The folders of phases that were over by a number of steps, and have more in
        `config`."""
        folders = {name: self.phase(name) for name in config["phases"]}
        return [
            folder
            for name, folder in folders.items()
            if (done := folder.done) is not None
            and done.get("stopped") == "steps"
            and done["steps"] < config[name]["steps"]
        ]

    def _enter(self, config, device):
        saved = settings.saved(self.path) if self.begun else None
        self.resumed = 0 if saved is None else saved.get("resumed", -1) + 1
        given, own = self.labels(config, compare=False), self.path / LABELS
        if given and not (own.exists() and self.begun):
            # What cannot be read, the data set tells of; one's own is there already.
            with contextlib.suppress(OSError):
                if not (own.exists() and own.samefile(given)):
                    content = Path(given).read_bytes()
                    with replacing(own, "wb") as file:
                        file.write(content)
                    self._copied = True
        write_json(
            self.path / settings.CONFIG,
            {
                "config": settings.plain(config),
                "resumed": self.resumed,
                **({"data": saved["data"]} if saved and "data" in saved else {}),
                "device": device,
                "versions": versions(),
                "git": git_state(),
                "command": sys.argv,
            },
        )

    def _leave_untouched(self, made):
        """Takes back what `open` wrote if nothing came of it, and the folders `made`,
        the inmost first."""
        if self.begun:
            return
        with contextlib.suppress(OSError):  # another run may have begun in one
            own = [settings.CONFIG, LOCK, inventory.FILE]
            for name in (*own, *([LABELS] if self._copied else [])):
                (self.path / name).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


class Round(Workdir):
    """One training of a simulation: a run's workdir, and its entry in the result."""

    @property
    def entry(self) -> dict | None:
        path = self.path / ROUND
        return json.loads(path.read_text()) if path.exists() else None

    def enter(self, entry: dict) -> dict:
        write_json(self.path / ROUND, entry)
        return self.entry


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises UserError where the folder cannot be used."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"workdir {path} cannot be used ({error.strerror}); give another --workdir."
        ) from error
