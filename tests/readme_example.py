"""The method that README adds, as if its file lay where README says."""

import re
import tempfile
from pathlib import Path

from ssl_jax import algorithms

README = (Path(__file__).parents[1] / "README.md").read_text()
ALGORITHM = re.search(
    r"```python\n(.*?)```", README.partition("## A method in 30 lines")[2], re.S
)[1]


def install() -> None:
    """Makes entropy an algorithm, and so a word of every data set's config."""
    if any("readme_example" in path for path in algorithms.__path__):
        return
    folder = Path(tempfile.mkdtemp(prefix="readme_example"))
    (folder / "entropy.py").write_text(ALGORITHM)
    algorithms.__path__.append(str(folder))
