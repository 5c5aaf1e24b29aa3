"""One process at a time in a workdir."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from ssl_jax.errors import UserError

LOCK = "lock"


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Keeps other processes out of the folder, which is there, until the block ends, or
    this process, however that does.

    Raises:
      UserError: another one is in it.
    """
    with (workdir / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in workdir {workdir}; wait until it "
                "ends, or give another --workdir."
            ) from error
        yield
