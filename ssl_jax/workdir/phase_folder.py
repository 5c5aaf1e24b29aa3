"""A phase's folder, <workdir>/<phase>, and every name in it."""

import json
from pathlib import Path
from typing import NamedTuple

from ssl_jax.workdir.files import write_json


class PhaseFolder(NamedTuple):
    """Of this run, or of another."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def profile(self) -> Path:
        """Traces of steps (train/profiling.py)."""
        return self.path / "profile"

    @property
    def marker(self) -> Path:
        """It is there when the phase is over."""
        return self.path / "done.json"

    @property
    def pseudo_labels(self) -> Path:
        """What the phase's teacher said (train/self_training.py)."""
        return self.path / "pseudo_labels.npz"

    @property
    def done(self) -> dict | None:
        """The phase's entry in result.json; None unless it is over."""
        return json.loads(self.marker.read_text()) if self.marker.exists() else None

    @property
    def trained(self) -> int:
        """Steps that it goes on from: of its newest checkpoint, or all when over."""
        if (done := self.done) is not None:
            return done.get("steps", 0)  # a probe has none
        saved = self.checkpoints.iterdir() if self.checkpoints.exists() else ()
        return max((int(p.name) for p in saved if p.name.isdigit()), default=0)

    def finish(self, entry: dict) -> dict:
        """Writes the entry: the phase is over. Returns it as JSON gives it back."""
        write_json(self.marker, entry)
        return self.done
