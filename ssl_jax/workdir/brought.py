"""Phases of one run in the workdir of another, which trains on behind them."""

import shutil
from collections.abc import Mapping, Sequence

from ssl_jax.workdir import inventory, settings
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.lock import held
from ssl_jax.workdir.workdir import LABELS, Workdir, explained


def bring(names: Sequence[str], whole: Workdir, to: Workdir, config: Mapping) -> None:
    """Copies phases that `whole` has trained into `to`, for the run `config`, with what
    was logged of them. What `whole` knows of its data comes along, so that on others
    the run is refused, as one that goes on.

    Nothing comes where one of these phases was begun and is not over, as by an older
    version: that run trains all of its own.

    Raises:
      UserError: another process is in `to`, or it cannot be written.
    """
    folders = [to.phase(name) for name in names]
    if any(folder.path.exists() and folder.done is None for folder in folders):
        return
    missing = [folder for folder in folders if folder.done is None]
    if not missing:
        return
    with explained(to.path):
        to.path.mkdir(parents=True, exist_ok=True)
        with held(to.path):
            if not to.begun:
                _begin(whole, to, config)
            for folder in missing:
                to.journal.take(folder.name, whole.journal.rows())
                whole.phase(folder.name).copy(folder.path)


def _begin(whole, to, config):
    for name in (inventory.FILE, LABELS):
        if (whole.path / name).exists():
            shutil.copy(whole.path / name, to.path / name)
    saved = settings.saved(whole.path)
    data = {"data": saved["data"]} if "data" in saved else {}
    write_json(to.path / settings.CONFIG, {"config": settings.plain(config)} | data)
