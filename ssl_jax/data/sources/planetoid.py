"""Cora, Citeseer and Pubmed, with Planetoid's split: Yang et al., arXiv:1603.08861.

The eight files of a citation network as they were published: pickles of Python 2, which
could run any code and are therefore read with a short list of what they may name.
"""

import io
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np

from ssl_jax.data import cache
from ssl_jax.data.graph_nodes import GraphData
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.graphs import sparse

URL = "https://github.com/kimiyoung/planetoid/raw/master/data"
NUM_VALIDATION = 500
# Cora's are those of the published files themselves; those of the other two agree
# between two independent public lists, whose sums of Cora's files are right.
SHA256 = {
    "cora": {
        "x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": (
            "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"
        ),
    },
    "citeseer": {
        "x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": (
            "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4"
        ),
    },
    "pubmed": {
        "x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
        "y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "test.index": (
            "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5"
        ),
    },
}


def serves(name: str) -> bool:
    return name in SHA256


def load_graph(wanted: Wanted) -> GraphData:
    """The citation network `wanted.name`, from the folder `wanted.dir`.

    Raises:
      UserError: as `load_planetoid`.
    """
    return load_planetoid(wanted.name, wanted.dir)


def load_planetoid(name: str, data_dir: str, download: bool = True) -> GraphData:
    """The citation network `name`, with Planetoid's split.

    Nodes to train on come first, then NUM_VALIDATION to validate. Citeseer's test nodes
    that no file describes have neither features nor a label. Citations of a document
    by itself are left out; tkipf/gcn keeps Citeseer's.

    Args:
      name: "cora", "citeseer" or "pubmed".
      data_dir: the folder with the files; "": `planetoid` in the cache folder.
      download: whether files that are missing there are fetched into it.

    Raises:
      UserError: a file is missing and cannot be had, cannot be read, or asks for
        something other than arrays.
    """
    if name not in SHA256:
        raise UserError(f"{name!r} is no citation network: use {', '.join(SHA256)}.")
    folder = Path(data_dir or cache.root() / "planetoid").expanduser()
    paths = {part: folder / f"ind.{name}.{part}" for part in SHA256[name]}
    missing = {part: path for part, path in paths.items() if not path.exists()}
    if missing and not download:
        names = ", ".join(path.name for path in missing.values())
        raise UserError(f"{folder} lacks {names}: {_by_hand(folder)}")
    for part, path in missing.items():
        _fetch(path, SHA256[name][part])
    try:
        return _assemble(name, paths)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder} holds files of {name!r} that do not fit together ({error}): "
            f"delete them; {_by_hand(folder)}"
        ) from error


def _assemble(name, paths):
    features, labels = {}, {}
    for part in ("x", "tx", "allx"):
        features[part] = _matrix(_read(paths[part]))
    for part in ("y", "ty", "ally"):
        labels[part] = _classes(_read(paths[part]))
    neighbors_of = _read(paths["graph"])
    test = np.array([int(i) for i in paths["test.index"].read_text().split()], np.int32)
    known = features["allx"].shape[0]
    N = max(known, int(test.max()) + 1)
    if len(set(test)) != len(test) or not (
        len(test) == features["tx"].shape[0] == len(labels["ty"])
        and len(labels["ally"]) == known <= test.min()
        and features["x"].shape[0] == len(labels["y"]) <= known - NUM_VALIDATION
    ):
        raise ValueError(f"{len(test)} test nodes and {known} others")
    edges = [(i, j) for i, heard in neighbors_of.items() for j in heard]
    edges_E2 = np.array(edges, np.int64).reshape(-1, 2)
    if edges and not 0 <= edges_E2.min() <= edges_E2.max() < N:
        raise ValueError(f"edges to {edges_E2.max()} of {N} nodes")

    node_of_row = np.r_[np.arange(known), test]  # rows of tx are in test.index's order
    from scipy import sparse as scipy_sparse  # not for every source that is asked

    entries = scipy_sparse.vstack([features["allx"], features["tx"]]).tocoo()
    labels_N = np.full(N, -1, np.int32)
    labels_N[node_of_row] = np.r_[labels["ally"], labels["ty"]]
    num_train = len(labels["y"])
    return GraphData(
        name=name,
        features=sparse.sparse(
            node_of_row[entries.row],
            entries.col,
            entries.data.astype(np.float32),
            (N, entries.shape[1]),
        ),
        adjacency=sparse.undirected(*edges_E2.T, N),
        labels_N=labels_N,
        class_names=tuple(str(c) for c in range(labels_N.max() + 1)),
        train=np.arange(num_train, dtype=np.int32),
        validation=np.arange(num_train, num_train + NUM_VALIDATION, dtype=np.int32),
        test=np.sort(test),
    )


def _matrix(csr):
    """A SciPy matrix of what a pickled one consists of."""
    from scipy import sparse as scipy_sparse

    parts = (csr.data, csr.indices, csr.indptr)
    matrix = scipy_sparse.csr_matrix(parts, shape=csr._shape)
    matrix.check_format(full_check=True)
    matrix.eliminate_zeros()
    return matrix


def _classes(onehot_NK):
    """labels_N, -1 for a row of zeros."""
    if onehot_NK.ndim != 2 or onehot_NK.dtype.kind not in "iuf":
        raise ValueError(f"labels of {onehot_NK.dtype} and shape {onehot_NK.shape}")
    return np.where(onehot_NK.any(axis=1), onehot_NK.argmax(axis=1), -1)


def _read(path: Path):
    """The pickled object in a file, made of nothing but arrays, lists and dictionaries.

    Raises:
      UserError: it asks for something else, or cannot be read.
    """
    try:
        return _Unpickler(path).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(
            f"{path} is no pickle that can be read ({error}): delete it; "
            f"{_by_hand(path.parent)}"
        ) from error


def _dtype(name, align=False, copy=False):
    # Python 2 wrote 0 and 1, of which NumPy 2.4 warns.
    return np.dtype(name, align=bool(align), copy=bool(copy))


class _Unpickler(pickle.Unpickler):
    """Knows the names in the published files, and refuses every other."""

    def __init__(self, path: Path):
        super().__init__(io.BytesIO(path.read_bytes()), encoding="latin1")
        self.path = path
        # Attributes are all that is stored of a matrix. A class of its own each time:
        # a pickle may set attributes of a class as well.
        csr_matrix = type("csr_matrix", (), {})
        self.known = {
            ("__builtin__", "list"): list,
            ("collections", "defaultdict"): defaultdict,
            ("numpy", "dtype"): _dtype,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("scipy.sparse.csr", "csr_matrix"): csr_matrix,
        }

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise UserError(
                f"{self.path} asks for {module}.{name}, which no file of a citation "
                "network needs and which could run any code: it was not read. "
                f"Delete it; {_by_hand(self.path.parent)}"
            )
        return self.known[module, name]


def _reconstruct(kind, shape, typecode):
    """An array, empty until its state is set; NumPy's own takes subclasses as well."""
    if kind is not np.ndarray:
        raise ValueError(f"an array of type {kind}")
    return np.ndarray(shape, np.dtype(typecode))


def _fetch(path, sha256):
    # Here because it takes a tenth of a second, which no other data set needs.
    import pooch

    url = f"{URL}/{path.name}"
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=path.parent)
    except (OSError, ValueError) as error:  # the network, the disk; a wrong checksum
        raise UserError(
            f"{url} could not be fetched into {path.parent} ({error}): "
            f"{_by_hand(path.parent)}"
        ) from error


def _by_hand(folder):
    return (
        f"put the files ind.*.* of {URL} into {folder}, or give the folder that has "
        "them as config.data.dir."
    )
