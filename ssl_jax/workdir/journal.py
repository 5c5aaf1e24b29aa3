"""metrics.jsonl: a row a log point."""

import json
import os
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.workdir.files import write_atomically


class Journal:
    """metrics.jsonl: one JSON object a log point, in order of phase and step."""

    def __init__(self, path: Path):
        self.path = path
        self._file = None

    def resume(self, phase: str, step: int) -> list[dict]:
        """Cuts the phase's rows back to `step`; returns those that remain of it.

        A last line that a killed process left half-written goes too.
        """
        rows = [
            row for row in self.rows() if row["phase"] != phase or row["step"] <= step
        ]
        self._rewrite(rows)
        self._file = self.path.open("a")
        return [row for row in rows if row["phase"] == phase]

    def take(self, phase: str, rows: list[dict]) -> None:
        """Puts the phase's rows of another run's journal behind those of other phases
        here, instead of those that this one has of it."""
        own = [row for row in self.rows() if row["phase"] != phase]
        theirs = [row for row in rows if row["phase"] == phase]
        self._rewrite(own + theirs)

    def rows(self) -> list[dict]:
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except json.JSONDecodeError as error:
            raise UserError(
                f"{self.path} has a line that is not JSON ({error}): mend it, or "
                "give another --workdir."
            ) from error

    def write(self, row: dict) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """To disk: called before a checkpoint, which must never be ahead of it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _rewrite(self, rows):
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))
