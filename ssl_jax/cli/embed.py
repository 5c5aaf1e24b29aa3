"""What a run, or a file of weights, sees in new images: the features of a folder of
them, in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ssl_jax.cli import new_images
from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.train import classifier, encoders, sections
from ssl_jax.workdir.files import replacing
from ssl_jax.workdir.workdir import Workdir


def write(config: Mapping[str, Any], path: Path) -> None:
    """Writes the features of the images below `config.predict.dir`, or of the image
    that it is, by the run in the workdir `path`, into the file `config.predict.out`:
    NumPy's .npz of names [M], paths below that folder, and features [M, D] float32.

    Where `path` has no run in it they are those of the file that
    `config.model.weights` names, in the network of `config.model`.

    Without that field the file is features.npz in the workdir, or features_2.npz and so
    on. Images that cannot be read are listed in the log, and left out.

    Raises:
      UserError: there is no such folder or no image in it, one cannot be read under
        `config.data.strict`, the file cannot be written or is another, the run is not
        trained to its end, or has no features; or as `encoders.of_file`.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    root, names = new_images.find(wanted.predict.dir)
    given, written = wanted.predict.out, workdir.new_file("features", ".npz")
    if given:
        written = new_images.out(given, "features", _is_such)
    if wanted.model.weights and workdir.config is None:
        asked = encoders.of_file(wanted)
        by, of = f"{asked.holds} ({wanted.model.weights})", "the centre, resized"
    else:
        asked = classifier.of_run(wanted, workdir)
        by = f"the phase {asked.phase!r} ({asked.method})"
        of = new_images.AS_THE_RUNS
    rows = new_images.said(root, names, asked, "features", strict=wanted.data.strict)
    try:
        with replacing(written, "wb") as file:
            good, bad = [], []
            for row in rows:
                (bad if row.said is None else good).append(row)
            if not good:
                raise new_images.none_read(bad[0], len(bad))
            features_MD = np.stack([row.said for row in good])
            np.savez(file, names=[row.name for row in good], features=features_MD)
    except OSError as error:
        raise new_images.not_written(written, error) from error
    image_files.report([Unreadable(row.name, row.reason) for row in bad], strict=False)
    print(
        f"{len(good):,} images, {features_MD.shape[1]:,} features each by {by}; "
        f"{len(bad):,} that cannot be read\n"
        f"{new_images.form(asked.shape, of)}\n{written}"
    )


def _is_such(path):
    try:
        with np.load(path) as arrays:
            return "features" in arrays.files
    except (ValueError, TypeError, EOFError, BadZipFile):  # of other files
        return False
