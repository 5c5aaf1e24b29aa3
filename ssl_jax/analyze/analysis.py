"""--mode=analyze: what data are like, printed and in analysis.json.

Nothing is trained, and nothing but that file is written. What would stop a run is told
among the warnings, and all else that can be said is said.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.analyze import counts, estimate, files, graph, pixels, repeated, text
from ssl_jax.core import make_mesh
from ssl_jax.data import loading, sources
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.loading import Data
from ssl_jax.data.survey import Survey
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, sections
from ssl_jax.train.parts import Run
from ssl_jax.train.run import check_elsewhere
from ssl_jax.workdir.files import expanded
from ssl_jax.workdir.workdir import Workdir

_FITS = 1.0, (1 / 4, 4.0)  # |mean| and standard deviation of what a network is fed


def write(
    config: Mapping[str, Any], path: Path, dataset: Dataset | None = None
) -> dict:
    """Analyses the data that `config` names, and how long its run would take; prints
    both, and writes them as analysis.json into the workdir `path`.

    Args:
      dataset: images that are in memory already, instead of what the config names.

    Returns:
      What analysis.json has.

    Raises:
      UserError: a mistake in the configuration; the data cannot be found, or none of
        them read; or the workdir cannot be written.
    """
    mesh = make_mesh()
    run = sections.parse(config, mesh.size)
    check_elsewhere(run.data, expanded(path))
    workdir = Workdir(path)
    if dataset is None and sources.is_graph(run.data.name):
        survey, mistakes = Survey(None), []
    else:
        survey = Survey(dataset) if dataset is not None else sources.survey(run.data)
        mistakes = list(survey.mistakes)
    run = _adapted(run, path, mesh, survey, mistakes)
    data = _loaded(run, mesh, survey, mistakes)
    found = {"name": run.name, "seed": run.seed, "data": run.data.name}
    found |= _of_data(run, survey, data, mistakes)
    print(text.of_data(found), flush=True)
    workdir.write_analysis(found)
    if survey.dataset is None and data is None:
        raise UserError(mistakes[0])
    found["time"] = None
    if data is not None:
        print("\na step of each phase is compiled and timed ...", flush=True)
        try:
            found["time"] = estimate.measured(run, data, mesh)
        except UserError as error:
            found["stops"].append(str(error))
    print(text.of_time(found))
    print(f"all of it in {workdir.write_analysis(found)}")
    return found


def _adapted(run: Run, path: Path, mesh, survey: Survey, mistakes: list[str]) -> Run:
    """The run with the settings that it leaves to the data; as it is, and one mistake
    more, where they do not settle them."""
    if survey.dataset is None:
        return run
    try:
        config, _ = adapted.to_data(run.config, path, mesh, survey.dataset)
        return sections.parse(config, mesh.size)
    except UserError as error:
        mistakes.append(str(error))
        return run


def _loaded(run: Run, mesh, survey: Survey, mistakes: list[str]) -> Data | None:
    """The data as a run would have them; None, and one mistake more, where it would
    not."""
    if survey.dataset is None and mistakes:
        return None
    try:
        return loading.load(
            run.data,
            mesh,
            seed=run.seed,
            as_graph=run.on_graph,
            dataset=survey.dataset,
        )
    except UserError as error:
        mistakes.append(str(error))
        return None


def _of_data(run: Run, survey: Survey, data: Data | None, mistakes: list[str]) -> dict:
    found = {
        "stops": list(dict.fromkeys(mistakes)),
        "warnings": [],
        "unreadable": files.unreadable(survey),
    }
    if survey.files or survey.unreadable:
        found["files"] = files.facts(survey)
    dataset = survey.dataset if data is None else data.dataset
    if dataset is None:
        return found
    rows = counts.pool_rows(dataset, None if data is None else data.split)
    labels = {name: dataset.labels_N[of_split] for name, of_split in rows.items()}
    labels["test"] = dataset.test_labels_M
    if sources.is_graph(dataset.name) and survey.dataset is None:
        published = sources.read_graph(run.data)
        found["graph"] = graph.facts(published)
        of_split = graph.rows(published, rows)
        labels = {name: published.labels_N[nodes] for name, nodes in of_split.items()}
    found["counts"] = counts.table(labels, dataset.class_names)
    found["balance"] = counts.balance(found["counts"])
    told = [*counts.warnings(found["counts"], found["balance"])]
    told += files.warnings(survey, run.data.image_size)
    if survey.dataset is not None:
        images, shown = _of_images(run, survey, dataset, rows)
        found |= images
        told = [*shown, *told]
    found["warnings"] = told
    return found


def _of_images(
    run: Run, survey: Survey, dataset: Dataset, rows: counts.Rows
) -> tuple[dict, list[str]]:
    """(what there is to say of pixels, warnings)."""
    N, M = len(dataset.labels_N), len(dataset.test_labels_M)
    looked = [pixels.look(dataset.images_NHWC, "images to train on")]
    looked.append(pixels.look(dataset.test_images_MHWC, "images to test on"))
    looked = pixels.Pixels(*map(np.concatenate, zip(*looked, strict=True)))
    sets = np.full(N + M, "test", dtype="U10")
    for name, of_split in rows.items():
        sets[of_split] = name
    images = repeated.Images(
        names=[
            *_names(dataset.names_N, N, ""),
            *_names(survey.test_names_M, M, "test "),
        ],
        sets=sets,
        labels=np.concatenate([dataset.labels_N, dataset.test_labels_M]),
        class_names=dataset.class_names,
    )
    mean, std = pixels.channels(looked, np.arange(N))
    flat = [images.names[row] for row in np.flatnonzero(looked.flat_N)]
    found = {
        "shape": list(dataset.images_NHWC.shape[1:]),
        "grey": int(looked.grey_N.sum()),
        "one_colour": flat,
        "channels": {"mean": mean, "std": std},
        "normalised": dict(_normalised(run, mean, std)),
        "copies": repeated.facts(images, looked),
    }
    told = list(repeated.warnings(found["copies"]))
    if flat:
        told.append(f"images of one colour all over: {len(flat):,} ({flat[0]}).")
    told += _unfit(found["normalised"], mean, std)
    return found, told


def _names(names: tuple[str, ...], number: int, of: str) -> list[str]:
    return list(names) or [f"{of}row {i}" for i in range(number)]


def _normalised(run: Run, mean: list, std: list) -> Iterator[tuple[str, dict]]:
    """Of each phase with views, what its network is fed: the moments of the images as
    its mean and std make them."""
    for section in run.trained.values():
        if {"mean", "std"} <= section.augment.keys():
            own_mean, own_std = (np.array(section.augment[f]) for f in ("mean", "std"))
            if {len(own_mean), len(own_std)} <= {1, len(mean)}:
                fed = (np.array(mean) - own_mean) / own_std, np.array(std) / own_std
                (low, high) = _FITS[1]
                fits = (abs(fed[0]) <= _FITS[0]) & (low <= fed[1]) & (fed[1] <= high)
                yield (
                    section.name,
                    {
                        "mean": fed[0].round(3).tolist(),
                        "std": fed[1].round(3).tolist(),
                        "fits": bool(fits.all()),
                    },
                )


def _unfit(normalised: Mapping, mean: list, std: list) -> Iterator[str]:
    for name, fed in normalised.items():
        if not fed["fits"]:
            own = ",".join(f"{v:.1f}" for v in mean), ",".join(f"{v:.1f}" for v in std)
            yield (
                f"{name}.augment normalises images to mean {fed['mean']} and standard "
                f"deviation {fed['std']}, where 0 and 1 are meant: set "
                f"--config.{name}.augment.mean='({own[0]},)' "
                f"--config.{name}.augment.std='({own[1]},)'."
            )
