"""One run, from its configuration to result.json."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from ssl_jax.algorithms import takes
from ssl_jax.core import make_mesh, processes
from ssl_jax.data import found, loading, sources, splits
from ssl_jax.data.dataset import Dataset, inventory
from ssl_jax.data.loading import Data
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.train import (
    adapted,
    extended,
    loop,
    phases,
    pictures,
    probing,
    program,
    sections,
    self_training,
    stopping,
    weights,
)
from ssl_jax.train.parts import Probes, Run
from ssl_jax.workdir import logs, policy, results, settings, shared
from ssl_jax.workdir.files import expanded
from ssl_jax.workdir.tensorboard import TensorBoard
from ssl_jax.workdir.workdir import Workdir


def run(
    config: Mapping[str, Any],
    path: Path,
    devices: list | None = None,
    dataset: Dataset | None = None,
) -> dict | None:
    """Trains the phases of `config` in the workdir `path`, going on with what is there.

    Args:
      config: an ml_collections.ConfigDict (`sections.parse`).
      devices: the devices to train on; all by default.
      dataset: images that are in memory already, instead of what the config names.

    Returns:
      The contents of result.json, or None if a SIGTERM or Ctrl-C ended the run early
      (its checkpoint is saved, and the same call goes on from there).

    Raises:
      UserError: a mistake in the configuration, the data or the workdir; a workdir
        that did not exist is then not created.
    """
    mesh = make_mesh(devices)
    config, read = adapted.to_data(config, path, mesh, dataset)
    wanted = sections.parse(config, mesh.size)
    with entered(wanted, path, mesh, dataset, read) as (workdir, data):
        if data is None:
            return workdir.result
        return _trained(wanted, data, workdir, mesh)


def on_data(wanted: Run, data: Data, path: Path, mesh: Mesh) -> dict | None:
    """`run` of what is parsed already, on data that the caller has split: a search
    keeps from it what it judges by (tuning/chain.py).

    Raises:
      UserError: as `run`.
    """
    device, verdicts = results.device(mesh), partial(extended.verdicts, wanted)
    with shared.entered(path, wanted.config, device, verdicts) as workdir:
        split = data.split
        its = inventory(
            data.dataset, labeled=split.labeled, validation=split.validation
        )
        workdir.changes(its, accepted=False)  # raises where there are any
        if workdir.result is not None and not workdir.undrawn():
            return workdir.result
        workdir.remember_data(its)
        return _trained(wanted, data, workdir, mesh)


@contextlib.contextmanager
def entered(
    wanted: Run,
    path: Path,
    mesh: Mesh,
    dataset: Dataset | None = None,
    read: Dataset | None = None,
    *,
    tests: bool = True,
) -> Iterator[tuple[Workdir, Data | None]]:
    """The workdir of a run, and its data, which are those that it began with; no data
    where the run is over, its result is there and no figure is left to draw.

    Args:
      dataset: images that are in memory already, instead of what the config names.
      read: what it names, where that was read before.
      tests: as in `loading.load`.

    Raises:
      UserError: as `Workdir.open`; the data cannot be had, do not suffice, or are not
        what the run began with.
    """
    check_elsewhere(wanted.data, expanded(path))
    _check_kind(path, searches=not tests)
    device, verdicts = results.device(mesh), partial(extended.verdicts, wanted)
    with shared.entered(path, wanted.config, device, verdicts) as workdir:
        # A user's own images may have changed since a run was over.
        looks = dataset is not None or sources.may_change(wanted.data.name)
        over = workdir.result is not None and not workdir.undrawn()
        its_result = f"{path} is over already; this is its result"
        if over and not looks:
            logs.say(its_result)
            yield workdir, None
            return
        data = loading.load(
            wanted.data_with(workdir.labels(wanted.config), again=workdir.begun),
            mesh,
            seed=wanted.seed,
            as_graph=wanted.on_graph,
            dataset=read if dataset is None else dataset,
            tests=tests,
        )
        # Of images in memory no name tells which they are.
        its = inventory(
            data.dataset,
            labeled=data.split.labeled,
            validation=data.split.validation,
            pixels=dataset is not None,
        )
        _check_same(its)
        if wanted.policy and not workdir.begun:  # later its file may have gone
            _say_policy(wanted, data.dataset)
        accepted = wanted.data.changed == "accept"
        drawn = wanted.data.num_labels > 0 or wanted.data.num_validation > 0
        drawn &= workdir.result is None  # and so are learned from
        if changes := workdir.changes(its, accepted=accepted, drawn=drawn):
            _check_goes_on(wanted, workdir)
            does = "goes on with" if workdir.result is None else "is over, of"
            logging.warning("%s other data: %s", does, "; ".join(changes))
        if over:
            logs.say(its_result)
        workdir.remember_data(its)
        yield workdir, None if over else data


def _check_kind(path, *, searches):
    """Raises UserError where a run is to go on in a search's workdir, or a search in a
    run's."""
    workdir = Workdir(path)
    there = processes.of_first(
        lambda: (workdir.begun, (workdir.path / policy.SEARCH).exists())
    )
    if there == (True, not searches):
        its, own = ("run", "search") if searches else ("search", "run")
        raise UserError(
            f"workdir {path} has a {its} in it, of --mode="
            f"{'train' if searches else 'tune'}: give the {own} another --workdir."
        )


def _check_same(its):
    """Raises UserError where this process has other data than process 0."""
    if processes.of_first(lambda: its.digest) != its.digest:
        raise UserError(
            f"process {processes.index()} finds other data, {its.name}, than "
            "process 0: bring the same to all hosts, or a disk that they share."
        )


def _say_policy(wanted, dataset):
    """Tells what the run takes from its policy, and what of that it has otherwise.

    Raises:
      UserError: the policy is of images of another shape.
    """
    its = policy.read(Path(wanted.policy))
    shape, names = dataset.images_NHWC.shape[1:], dataset.class_names
    if its.shape != shape:
        raise UserError(
            f"policy {wanted.policy} was found on images of {_times(its.shape)}, and "
            f"those of {dataset.name} are {_times(shape)}: take one of that shape (or "
            "bring images to it, by data.image_size), or find one by --mode=tune."
        )
    if len(its.class_names) != len(names):
        logging.warning(
            "policy %s was found on %s classes, and %s has %s",
            *(wanted.policy, len(its.class_names), dataset.name, len(names)),
        )
    here = dict(settings.flat(wanted.config))
    there = {field: json.dumps(value) for field, value in its.settings.items()}
    others = {f: here[f] for f, value in there.items() if here[f] != value}
    logs.say(
        f"policy {wanted.policy}: "
        + ", ".join(f"{f}={value}" for f, value in there.items() if f not in others)
        + "".join(f"; not its {f}={there[f]} but {v}" for f, v in others.items())
    )


def _times(shape):
    return "x".join(map(str, shape))


def check_elsewhere(data: Wanted, path: Path) -> None:
    """Raises UserError where the workdir would lie among the user's own images."""
    if not sources.may_change(data.name):
        return
    fields = {"dir": data.dir, "unlabeled": data.unlabeled}
    if not os.path.dirname(data.unlabeled):  # it lies in the other
        del fields["unlabeled"]
    for field, given in fields.items():
        folder = os.path.realpath(os.path.expanduser(given))
        inside = os.path.commonpath([folder, os.path.realpath(path)]) == folder
        if given and os.path.isdir(folder) and inside:
            beside = os.path.join(os.path.dirname(folder), "runs", path.name)
            raise UserError(
                f"workdir {path} lies in config.data.{field}={given!r}, where its "
                f"figures would be taken for images: use --workdir={beside}, say."
            )


def _check_goes_on(wanted, workdir):
    """Raises UserError where a phase that is not over remembers images by their rows,
    which are others now."""
    for section in wanted.trained.values():
        folder, method = workdir.phase(section.name), section.method
        by_row = method.draws_from in ("pool", "graph") or takes(
            method, "num_unlabeled"
        )
        if by_row and folder.done is None and folder.checkpoints.exists():
            raise UserError(
                f"{section.algorithm} keeps something of each image, and the images of "
                f"workdir {workdir.path} are others now: bring those back, or train "
                "anew in another --workdir."
            )


def say_found(wanted: Run, data: Data) -> dict:
    """What was found (`found.facts`), told in a line as well; and in others, that
    nothing can be judged without a class, and what steps in parts change."""
    facts = found.facts(data, wanted.data.image_size)
    logs.say(found.line(facts))
    if not facts["classes"]:
        logs.say(
            "no image has a label, so nothing is judged: there is no accuracy, but the "
            "loss, and train/projection_std, which a collapse brings near 0"
        )
    if wanted.accumulate > 1:
        logs.say(
            f"a step's images go through the network in {wanted.accumulate} parts "
            "(accumulate): the gradient is of all, BatchNorm sees a part at a time"
        )
    return facts


def check(wanted: Run, data: Data) -> None:
    """Raises UserError where a section asks for what the data do not have, and warns
    where it becomes something else without them."""
    check_validation(wanted, data)
    for section in wanted.sections:
        judged = isinstance(section, Probes) or section.knn
        if judged and "test" not in data.eval_sets:
            raise UserError(
                f"the phase {section.name!r} is judged by test images, and "
                f"{data.dataset.name} has none: leave it out of phases, set its knn=0, "
                "or add a folder test."
            )
        if isinstance(section, Probes):
            probing.check_folds(section.protocol, section.name, len(data.split.labeled))
            continue
        weights.warn_of_fresh(wanted, section)
        if section.labels_from:
            self_training.check_split(section, data.split)
        elif section.method.needs_unlabeled and not len(splits.candidates(data.split)):
            logging.warning(
                "%s: every unlabeled image is a labeled one, so that %s is supervised "
                "learning here, with its unlabeled loss on the labeled images; give it "
                "images without a label (data.unlabeled names a folder's), or lower "
                "data.num_labels.",
                *(section.name, section.algorithm),
            )


def check_validation(wanted: Run, data: Data) -> None:
    """Raises UserError where a phase stops by images to validate on, and there are
    none."""
    for section in wanted.trained.values():
        if stopping.watches(section) and "val" not in data.eval_sets:
            rule = next(name for name in stopping.RULES if getattr(section, name))
            at = f"{section.name}.{rule}"
            raise UserError(
                f"{at}={getattr(section, rule)} needs validation images, and "
                f"{data.dataset.name} has none of its own: set data.num_validation, or "
                f"{at}=0."
            )


def _trained(wanted, data, workdir, mesh):
    """What `run` returns, of a workdir that was entered."""
    check(wanted, data)
    facts = say_found(wanted, data)
    with stop_on_signal() as interrupted, jax.set_mesh(mesh):
        done = _train(wanted, data, workdir, mesh, interrupted)
    if done is None:
        return None
    if workdir.result is not None:
        return workdir.result  # figures alone were left
    device = results.device(mesh)
    return workdir.finish(
        results.of_run(wanted.config, device, facts, done, workdir.resumed)
    )


def _train(wanted, data, workdir, mesh, interrupted):
    """The entry of each section in result.json, or None if stopped early."""
    build = partial(phases.build, wanted, data=data, mesh=mesh)
    built = {name: build(section) for name, section in wanted.trained.items()}
    program.check_handovers(list(built.values()))
    done = {}
    board = TensorBoard(
        workdir.path, wanted.tensorboard and workdir.writes, wanted.config
    )
    with contextlib.closing(board):
        for section in wanted.sections:
            name, folder = section.name, workdir.phase(section.name)
            if folder.done is None or workdir.undrawn(name):
                if interrupted():
                    return None
                more, quality = {}, {}
                if isinstance(section, Probes):
                    judged, how = built[section.start_from], section.protocol
                    entry = probing.judge(how, judged, data, workdir, name, interrupted)
                else:
                    phase = built[name]
                    if section.labels_from:
                        labels, more, quality = self_training.teach(
                            phase, built[section.labels_from], data, workdir
                        )
                        phase = build(section, labels=labels)
                    entry = loop.train(
                        phase, data, workdir, board, interrupted, quality
                    )
                if entry is None:
                    return None
                if folder.done is None:
                    folder.finish(entry | more)
            done[name] = folder.done
        shown = pictures.compared(wanted, data, workdir.journal.rows())
        loop.show(workdir, board, "phases", 0, shown)
    return done


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGTERM or Ctrl-C has come, to this process
    or to another that trains with it.

    Only the first is taken so; the next one acts as it always does. A thread beside the
    main one, which gets none, is not told.
    """
    received = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def handle(signum, frame):
        received.append(signum)
        signal.signal(signum, before[signum])

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        with processes.agreed(lambda: bool(received)) as interrupted:
            yield interrupted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
