"""Where images and graphs come from. One source, one file in this folder:

    serves(name) -> bool            whether `name` (config.data.name) is this source's
    load(wanted) -> Dataset         what a Wanted with such a name asks for; or
    load_graph(wanted) -> GraphData where it is a graph
    MAY_CHANGE = True               where its files are the user's own
    STREAMS = True                  where images stay in their files if `wanted` asks
                                    for that (`placement.streams`)
    original(wanted, name) -> image_HWC    of the file that the data set calls so, to
                                    be looked at, where its images are files
    survey(wanted) -> Survey        as `load`, but that nothing is refused for what its
                                    files hold, and all is told of each

A file without `serves` is no source: it helps those that are. They are asked in the
order of their names, those in another folder of `__path__` after those here, so that a
new source needs no edit elsewhere. What none of them serves is a data set of TensorFlow
Datasets.

    digits      scikit-learn's, embedded
    folder      your own images: found by layout.py, which folder_names.py tells what
                is a class, and read by decoding.py, image_files.py (many) and
                one_image.py (one); formats.py knows what Pillow does not open;
                folder_survey.py looks at all of it
    npz         your own arrays, in a file
    planetoid   citation networks
    stl10       its binary files
    tfds_source the rest; tfds_prepare.py finds or prepares it, tfds_split.py reads a
                split of it, tfds_survey.py looks at every record
"""

import contextlib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.graph_nodes import GraphData
from ssl_jax.data.sources import tfds_source
from ssl_jax.data.survey import Survey
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError


def load(name: str, *, data_dir: str = "", **settings: object) -> Dataset:
    """The data set `name`: a training pool and a test set, uint8 images.

    Args:
      data_dir: where it is prepared.
      **settings: other fields of `Wanted`, such as image_size.

    Raises:
      UserError: as `read`.
    """
    return read(Wanted(name=name, dir=data_dir, **settings))


def read(wanted: Wanted) -> Dataset:
    """The images that `wanted` names.

    Raises:
      UserError: they cannot be found, prepared or read, or it is a graph; the message
        says what to do.
    """
    source = find(wanted.name)
    if not hasattr(source, "load"):
        raise UserError(
            f"data.name={wanted.name!r} is a graph, and no phase of this config learns "
            "from one: take configs/gcn_cora.py."
        )
    if wanted.placement == "stream" and not getattr(source, "STREAMS", False):
        raise UserError(
            f"data.placement='stream' and data.name={wanted.name!r}: what is streamed "
            "are folders of images and data sets of TensorFlow Datasets; use auto, "
            "device or host."
        )
    return source.load(wanted)


def survey(wanted: Wanted) -> Survey:
    """What `read` gives, with all that is known of files; what can be read where it
    refuses.

    Raises:
      UserError: it is a graph; or there is no telling what is what.
    """
    source = find(wanted.name)
    if hasattr(source, "survey"):
        return source.survey(wanted)
    return Survey(read(wanted))


def read_graph(wanted: Wanted) -> GraphData:
    """The graph that `wanted` names, where `is_graph`.

    Raises:
      UserError: it cannot be found or read; the message says what to do.
    """
    return find(wanted.name).load_graph(wanted)


def is_graph(name: str) -> bool:
    """Whether `name` is a graph rather than images."""
    return hasattr(find(name), "load_graph")


def may_change(name: str) -> bool:
    """Whether the files of `name` are the user's own, so that a run that is over must
    look at them before it returns its result: they may be others now."""
    return getattr(find(name), "MAY_CHANGE", False)


def originals(
    wanted: Wanted, dataset: Dataset, index_M: Iterable[int]
) -> list[np.ndarray]:
    """image_HWC of each of the rows `index_M` of the pool, uint8, for people to look
    at: as its file has it; as the data set has it where that is in no file or has
    become unreadable."""
    original = getattr(find(wanted.name), "original", None)
    images = []
    for index in index_M:
        image_HWC = dataset.images_NHWC[index]
        if original is not None:
            # Files go, and damaged ones make Pillow raise nearly anything.
            with contextlib.suppress(Exception):
                image_HWC = original(wanted, dataset.names_N[index])
        images.append(image_HWC)
    return images


def find(name: str) -> ModuleType:
    """The source that serves `name`."""
    for module in pkgutil.iter_modules(__path__):
        source = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(source, "serves") and source.serves(name):
            return source
    return tfds_source
