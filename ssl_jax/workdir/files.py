"""Files written so that a killed process leaves the old one or the new one."""

import json
import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes beside `path` and renames: a killed process leaves the old or the new."""
    beside = path.with_name(path.name + ".tmp")
    # File names may hold bytes that are no text.
    with beside.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # or a power cut could leave the name without the text
    beside.replace(path)


def write_json(path: Path, value: object) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")
