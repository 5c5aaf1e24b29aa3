"""The folder of what a run is without each of its parts, <workdir>/ablation."""

from pathlib import Path
from typing import NamedTuple

from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.results import read_json


class AblationFolder(NamedTuple):
    path: Path

    @property
    def found(self) -> dict | None:
        """What was written last; None where nothing was tried.

        Raises:
          UserError: it is no JSON.
        """
        return read_json(self._file) if self._file.exists() else None

    def write(self, found: dict) -> None:
        write_json(self._file, found)

    def run(self, part: str, seed: int) -> Path:
        """The workdir of a run without the part."""
        return self.path / f"{part}-seed{seed}"

    @property
    def _file(self):
        return self.path / "ablation.json"
