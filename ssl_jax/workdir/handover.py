"""What a phase leaves to a later one."""

import json
from pathlib import Path

from ssl_jax.core import PyTree
from ssl_jax.errors import UserError
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.settings import _saved


def finished_phase(workdir: Path) -> Path:
    """The folder of a phase of another run: `workdir` itself, or if that is a run's
    workdir, of the only phase that it trained.

    Raises:
      UserError: it is no such folder, not trained to its end, or the run trained
        several phases.
    """
    if (workdir / "done.json").exists() and (workdir / "checkpoints").exists():
        return workdir
    saved = _saved(workdir)
    config = saved["config"] if saved else {"phases": []}
    trained = [name for name in config["phases"] if "algorithm" in config[name]]
    if len(trained) > 1:
        raise UserError(
            f"start_from={str(workdir)!r} trained several phases: name one, such as "
            f"{str(workdir / trained[0])!r}."
        )
    if not trained or not (workdir / trained[0] / "done.json").exists():
        raise UserError(
            f"start_from={str(workdir)!r} is neither 'scratch', nor an earlier one of "
            "this run's phases, nor the workdir of a finished run."
        )
    return workdir / trained[0]


def handed_over(start_from: str, keep: tuple[str, ...], workdir: Path) -> PyTree | None:
    """The variables that a phase starts from, for `core.init_state`.

    Args:
      start_from: "scratch", the name of a phase of this run, or another run's workdir
        or phase (`finished_phase`).
      keep: the top-level parts that come along, such as "encoder".

    Raises:
      UserError: there is no such phase or workdir, it is not trained to its end, or it
        has no such part.
    """
    if start_from == "scratch":
        return None
    folder = workdir / start_from
    done = folder / "done.json"
    if not done.exists():
        folder = finished_phase(Path(start_from))
        done = folder / "done.json"
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore_newest()["state"]
    steps = json.loads(done.read_text())["steps"]
    if state["step"] != steps:
        raise UserError(
            f"start_from={start_from!r} was trained for {steps} steps, but its newest "
            f"checkpoint is of step {state['step']}: delete {done} and run its command "
            "again."
        )
    variables = {"params": state["params"], **state["model_state"]}
    return kept(variables, keep, start_from)


def kept(variables: PyTree, keep: tuple[str, ...], start_from: str) -> PyTree:
    """The top-level parts `keep` of what the phase `start_from` trained.

    Raises:
      UserError: it has no such part.
    """
    missing = set(keep) - set(variables["params"])
    if missing:
        raise UserError(
            f"keep names {sorted(missing)}, but what {start_from!r} trained has "
            f"{sorted(variables['params'])}."
        )
    return {
        collection: {part: parts[part] for part in keep if part in parts}
        for collection, parts in variables.items()
    }
