"""Where images and graphs come from. One source, one file in this folder:

    serves(name) -> bool            whether `name` (config.data.name) is this source's
    load(wanted) -> Dataset         what a Wanted with such a name asks for; or
    load_graph(wanted) -> GraphData where it is a graph
    MAY_CHANGE = True               where its files are the user's own

A file without `serves` is no source: it helps those that are. They are asked in the
order of their names, those in another folder of `__path__` after those here, so that a
new source needs no edit elsewhere. What none of them serves is a data set of TensorFlow
Datasets.

    digits      scikit-learn's, embedded
    folder      your own images, found by layout.py and decoded by image_files.py
    planetoid   citation networks
    stl10       its binary files
    tfds_source the rest; tfds_prepare.py finds or prepares it
"""

import importlib
import pkgutil
from types import ModuleType

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.graph_nodes import GraphData
from ssl_jax.data.sources import tfds_source
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
    return source.load(wanted)


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


def find(name: str) -> ModuleType:
    """The source that serves `name`."""
    for module in pkgutil.iter_modules(__path__):
        source = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(source, "serves") and source.serves(name):
            return source
    return tfds_source
