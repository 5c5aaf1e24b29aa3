"""How far a reading of many files is, once it takes more than a few seconds."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from ssl_jax.workdir.logs import redraws

_PATIENCE = 3.0  # seconds before anything is shown
_BETWEEN = 10.0  # seconds between lines, where there is no terminal

Item = TypeVar("Item")


def shown(
    items: Iterable[Item],
    total: int,
    what: str,
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """The items; on the way a bar on a terminal and in a notebook, and plain lines
    elsewhere.

    Args:
      total: the sum of `size` over all.
      what: is done with them, such as "decoding images".
    """
    if redraws():
        with tqdm(total=total, desc=what, unit="", delay=_PATIENCE, leave=False) as bar:
            for item in items:
                yield item
                bar.update(size(item))
        return
    began = time.monotonic()
    said, done = began + _PATIENCE - _BETWEEN, 0
    for item in items:
        yield item
        done, now = done + size(item), time.monotonic()
        if now - said >= _BETWEEN and done < total:
            left = (now - began) / max(done, 1) * (total - done)
            print(
                f"{what}: {done:,} of {total:,}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            said = now
