"""Other commits of this project, beside the checkout that these files are in."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def worktree(commit: str, folder: Path, repository: Path = ROOT) -> Iterator[Path]:
    """The commit's files, in `folder` for as long as it is entered."""
    git = ["git", "-C", str(repository), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", folder, commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", folder], check=True)
