"""What a phase leaves to a later one: its checkpoint, restored by one rule."""

from pathlib import Path

import jax

from ssl_jax.core import PyTree, place, processes
from ssl_jax.errors import UserError
from ssl_jax.workdir import settings
from ssl_jax.workdir.checkpoints import Checkpoints, by_path
from ssl_jax.workdir.files import expanded
from ssl_jax.workdir.phase_folder import PhaseFolder


def restored(
    folder: PhaseFolder, like: PyTree | None = None, *, finished: bool = True
) -> tuple[int, PyTree]:
    """(step, {"state", "sums"}) of a phase's newest checkpoint.

    Args:
      like: shapes, dtypes and shardings; None: nested dicts of NumPy arrays.
      finished: the phase must be over, and this be of its last step.

    Raises:
      UserError: there is none, it cannot be read, or is not of the last step.
    """
    with Checkpoints(folder.checkpoints) as checkpoints:
        done = processes.of_first(lambda: folder.done)
        newest = max(checkpoints.steps, default=None)
        if finished and done["steps"] != newest:
            newest = "none" if newest is None else f"one of step {newest}"
            raise UserError(
                f"{folder.path} was trained for {done['steps']} steps, but has no "
                f"checkpoint of the last, and at best {newest}: delete {folder.marker} "
                "and run its command again."
            )
        if newest is None:
            raise UserError(
                f"there is no checkpoint in {checkpoints.folder} yet: train "
                f"{folder.name!r} first."
            )
        return checkpoints.newest(like)


def as_saved(
    folder: PhaseFolder, like: PyTree, *, finished: bool = True
) -> tuple[int, PyTree]:
    """`restored` with the structure and the shardings of `like`, but with the shapes
    that were saved: a method that keeps something of each image has it of those that it
    was trained on, and there may be others now.

    Raises:
      UserError: as `restored`; or something of `like` was not saved.
    """
    step, tree = restored(folder, finished=finished)
    saved, wanted = by_path(tree), by_path(like)
    if missing := sorted(wanted.keys() - saved.keys()):
        raise UserError(
            f"the checkpoint of {folder.path} has no {missing[0]}: another version of "
            "ssl_jax wrote it; train it again with this one."
        )
    leaves = [place(saved[path], wanted[path].sharding) for path in wanted]
    return step, jax.tree.unflatten(jax.tree.structure(like), leaves)


def finished_phase(workdir: Path) -> PhaseFolder:
    """A phase of another run: `workdir` itself, or if that is a run's workdir, the only
    phase that it trained.

    Raises:
      UserError: it is no such folder, not trained to its end, or the run trained
        several phases.
    """
    workdir = expanded(workdir)
    folder = PhaseFolder(workdir)
    if folder.done is not None and folder.checkpoints.exists():
        return folder
    saved = settings.saved(workdir)
    config = saved["config"] if saved else {"phases": []}
    trained = [name for name in config["phases"] if settings.trains(config[name])]
    if len(trained) > 1:
        raise UserError(
            f"start_from={str(workdir)!r} trained several phases: name one, such as "
            f"{str(workdir / trained[0])!r}."
        )
    if not trained or PhaseFolder(workdir / trained[0]).done is None:
        raise UserError(
            f"start_from={str(workdir)!r} is neither 'scratch', nor an earlier one of "
            "this run's phases, nor the workdir of a finished run."
        )
    return PhaseFolder(workdir / trained[0])


def handed_over(start_from: str, keep: tuple[str, ...], workdir: Path) -> PyTree | None:
    """The variables that a phase starts from, for `core.init_state`: those that the
    phase `start_from` was judged by, its teacher's where that is an average.

    Args:
      start_from: "scratch", the name of a phase of the run in `workdir`, or another
        run's workdir or phase (`finished_phase`).
      keep: the top-level parts that come along, such as "encoder".

    Raises:
      UserError: there is no such phase or workdir, it is not trained to its end, or it
        has no such part.
    """
    if start_from == "scratch":
        return None
    folder = processes.of_first(lambda: _phase(start_from, workdir))
    _, tree = restored(folder)
    state = tree["state"]
    # At a constant rate the network itself is points worse than its average.
    params = (state["extra"] or {}).get("ema", state["params"])
    variables = {"params": params, **state["model_state"]}
    return kept(variables, keep, start_from)


def _phase(start_from, workdir):
    """Of this run, or else of another."""
    folder = PhaseFolder(workdir / start_from)
    return finished_phase(Path(start_from)) if folder.done is None else folder


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
