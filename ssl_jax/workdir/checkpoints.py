"""What a run leaves so that it can go on: checkpoints with checksums, and the journal.

The only importer of orbax. A checkpoint is {"state": TrainState, "sums": the metric
sums since the last log point}, so a resumed run writes the rows that the undisturbed
one would have written; and beside it the seconds that the phase took. Of several
processes the first alone writes and reads, and the others get what it read by the
devices: they may not see the folder.
"""

import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from ssl_jax.core import PyTree, place, processes
from ssl_jax.errors import UserError
from ssl_jax.workdir.phase_folder import PhaseFolder

KEEP = 3  # newest checkpoints of a phase: the last, and two to fall back on


class Checkpoints:
    """The checkpoints of one phase; use it in a `with` block.

    Args:
      tidy: remove what killed saves left: only for the process that trains the phase.
    """

    def __init__(self, folder: Path, *, tidy: bool = False):
        self.folder = folder.absolute()
        self._manager = _manager(self.folder, tidy) if processes.is_first() else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._manager is not None:
            self._manager.close()  # waits for a save under way

    @property
    def steps(self) -> list[int]:
        return processes.of_first(self._steps)

    def save(self, step: int, tree: PyTree, seconds: float | None = None) -> None:
        """Copies `tree` off the device and writes it in the background, atomically.

        Args:
          seconds: that the phase has taken so far, over all its launches.

        Raises:
          UserError: a number in it is not finite; nothing is written.
        """
        processes.of_first(lambda: self._save(step, tree, seconds))

    def _save(self, step, tree, seconds):
        if step in self._steps():
            return
        tree = jax.device_get(tree)
        if name := not_finite(tree):
            phase = self.folder.parent.name
            raise UserError(
                f"{name} of the phase {phase!r} is not finite at step {step}; "
                f"{self._last_good()} Lower {phase}.optimizer.learning_rate and use "
                "another workdir."
            )
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree),
                # Orbax notices a truncated file but restores a flipped byte as it is.
                checksum=ocp.args.JsonSave(
                    {"blake2b": checksum(tree), "seconds": seconds}
                ),
            ),
        )

    def wait(self) -> None:
        """Until the save under way, if any, is on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def seconds(self, step: int) -> float | None:
        """Those of `save`; None: it was given none, or was of an older version."""
        return processes.of_first(lambda: self._seconds(step))

    def newest(self, like: PyTree | None = None) -> tuple[int, PyTree]:
        """(step, tree) of the newest checkpoint, as `restore` gives it.

        Raises:
          UserError: there is none, or as `restore`.
        """
        steps = self.steps
        if not steps:
            raise UserError(f"there is no checkpoint in {self.folder} yet.")
        return steps[-1], self.restore(steps[-1], like)

    def restore(self, step: int, like: PyTree | None = None) -> PyTree:
        """The tree saved at `step`, with the structure and shardings of `like`; without
        that, nested dicts of NumPy arrays.

        Raises:
          UserError: it cannot be read, or is not what was saved; the message names it
            and the newest one that can be read.
        """
        if like is not None:
            like = jax.tree.map(_abstract, like)
        if processes.count() == 1:
            return self._read(step, like)
        if like is None:
            return processes.of_first(lambda: self._read(step, None))
        # Orbax would have each process read the folder.
        leaves = processes.of_first(lambda: self._leaves(step, like))
        tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return jax.tree.map(lambda leaf, to: place(leaf, to.sharding), tree, like)

    def _leaves(self, step, like):
        """On the host, by way of one device."""
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        here = jax.tree.map(
            lambda to: jax.ShapeDtypeStruct(to.shape, to.dtype, sharding=one), like
        )
        return jax.device_get(jax.tree.leaves(self._read(step, here)))

    def _read(self, step, like):
        try:
            return self._restore(step, like)
        except _Damaged as error:
            damaged = self.folder / str(step)
            raise UserError(
                f"checkpoint {damaged} cannot be read ({error}). "
                f"{self._remedy(damaged, step, like)}"
            ) from error

    def _seconds(self, step):
        args = ocp.args.Composite(checksum=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args).checksum.get("seconds")

    def _restore(self, step, like):
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(like), checksum=ocp.args.JsonRestore()
        )
        hook = sys.unraisablehook
        sys.unraisablehook = _without_abandoned_reads(hook)
        try:
            restored = self._manager.restore(step, args=args)
            expected = restored.checksum["blake2b"]
        except Exception as error:  # orbax raises no narrower one for bad data
            raise _Damaged(_first_line(error)) from None
        sys.unraisablehook = hook  # after a failure the filter stays
        if checksum(jax.device_get(restored.state)) != expected:
            raise _Damaged("its checksum differs from the one saved with it")
        return restored.state

    def _remedy(self, damaged, step, like):
        marker = PhaseFolder(self.folder.parent).marker  # there if a later phase asks
        also = f" and {marker}" if marker.exists() else ""
        for earlier in reversed([s for s in self._steps() if s < step]):
            try:
                self._restore(earlier, like)
            except _Damaged:
                continue
            return (
                f"The newest readable one is {self.folder / str(earlier)}: to go on "
                f"from there, delete every later one{also}, and run the same command."
            )
        return (
            "No other can be read: to train this phase from its start, delete "
            f"{self.folder}{also}, and run the same command."
        )

    def _last_good(self):
        steps = self._steps()
        if not steps:
            return "no checkpoint was saved before."
        return f"the last good checkpoint is {self.folder / str(steps[-1])}."

    def _steps(self):
        return sorted(self._manager.all_steps())


def _manager(folder, tidy):
    options = dict(max_to_keep=KEEP, cleanup_tmp_directories=tidy)
    if processes.count() > 1:  # or it would wait for the others
        folder.mkdir(parents=True, exist_ok=True)
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        options |= dict(multiprocessing_options=alone, create=False)
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(**options),
        item_names=("state", "checksum"),
    )


class _Damaged(Exception):
    """Files of a checkpoint are short, missing or garbled."""


def _without_abandoned_reads(hook):
    """When one array cannot be read, orbax abandons the reads of the others, and each
    of them reports a traceback, some of them much later."""

    def filtered(unraisable):
        said = str(unraisable.exc_value)
        if "Event loop is closed" not in said and "reading array index" not in said:
            hook(unraisable)

    return filtered


def not_finite(tree: PyTree) -> str:
    """The name of the first leaf that holds NaN or infinity, "state/params/...", or "".

    In what a method keeps for itself, state/extra, infinity is a number: of a class
    that no label reaches yet, label spreading has the logarithm of 0. NaN is nowhere.
    On the host, where the tree is to be written anyway: a fraction of `checksum`.
    """
    for name, leaf in by_path(tree).items():
        leaf = np.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        own = name.startswith("state/extra/")
        if np.isnan(leaf).any() if own else not np.isfinite(leaf).all():
            return name
    return ""


def checksum(tree: PyTree) -> str:
    """blake2b over every leaf's name and bytes, whatever the containers."""
    digest = hashlib.blake2b(digest_size=16)
    named = by_path(tree)
    for name in sorted(named):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(named[name]).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def by_path(tree):
    """{path: leaf}, whatever the containers."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _abstract(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
