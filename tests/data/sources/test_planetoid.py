"""Planetoid's files, written small and as Python 2 pickled them; and hostile ones."""

import functools
import hashlib
import http.server
import os
import pickle
import struct
import threading
from collections import defaultdict

import numpy as np
import pytest

from ssl_jax.data.sources import planetoid
from ssl_jax.errors import UserError

TRAIN, KNOWN, NODES = 4, 506, 511  # 500 validate, 2 are neither; 5 remain to test
WORDS, CLASSES = 3, 2


class csr_matrix:
    """What a pickled SciPy matrix consists of."""

    def __init__(self, x_ND):
        rows_E, self.indices = (i.astype(np.int32) for i in np.nonzero(x_ND))
        self.data = x_ND[rows_E, self.indices]
        counts_N = np.bincount(rows_E, minlength=len(x_ND))
        self.indptr = np.r_[0, counts_N.cumsum()].astype(np.int32)
        self._shape = x_ND.shape


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with byte strings, integers for booleans, and the old names."""

    dispatch = dict(pickle._Pickler.dispatch)
    old_names = {
        "csr_matrix": "scipy.sparse.csr\ncsr_matrix",
        "_reconstruct": "numpy.core.multiarray\n_reconstruct",
        "ndarray": "numpy\nndarray",
        "dtype": "numpy\ndtype",
        "list": "__builtin__\nlist",
        "defaultdict": "collections\ndefaultdict",
    }

    def save_global(self, obj, name=None):
        name = obj.__name__ if isinstance(obj, type) else name
        # NumPy has a class for each dtype, and pickled the one above them.
        old = self.old_names["dtype" if "DType" in name else name]
        self.write(b"c" + old.encode() + b"\n")

    def save_bytes(self, obj):
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)

    dispatch[bytes] = save_bytes
    dispatch[bool] = lambda self, obj: self.save(int(obj))


def write(folder, name, part, content):
    with (folder / f"ind.{name}.{part}").open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)


def network(folder, name="citeseer", test=(510, 506, 509, 507)):
    """(x_ND, labels_N) of a network whose file of test nodes lists these."""
    draw = np.random.default_rng(0)
    x_ND = draw.integers(0, 2, (NODES, WORDS)).astype(np.float32)
    labels_N = draw.integers(0, CLASSES, NODES)
    labels_N[:CLASSES] = range(CLASSES)
    onehot_NK = np.eye(CLASSES, dtype=np.int32)[labels_N]
    onehot_NK[KNOWN - 1], labels_N[KNOWN - 1] = 0, -1
    order = list(test)
    for prefix, rows in (("", slice(TRAIN)), ("t", order), ("all", slice(KNOWN))):
        write(folder, name, f"{prefix}x", csr_matrix(x_ND[rows]))
        write(folder, name, f"{prefix}y", onehot_NK[rows])
    # Twice, in one direction only, and to itself.
    neighbors_of = defaultdict(list, {0: [1, 1, 510], 1: [0], 2: [2, 506], 506: []})
    write(folder, name, "graph", neighbors_of)
    lines = "".join(f"{node}\n" for node in test)
    (folder / f"ind.{name}.test.index").write_text(lines)
    missing = np.setdiff1d(np.arange(KNOWN, NODES), test)
    x_ND[missing], labels_N[missing] = 0, -1
    return x_ND, labels_N


def test_files_become_a_graph(tmp_path):
    x_ND, labels_N = network(tmp_path)
    data = planetoid.load_planetoid("citeseer", str(tmp_path), download=False)
    features_ND = np.zeros((NODES, WORDS))
    features_ND[data.features.rows_E, data.features.columns_E] = data.features.values_E
    np.testing.assert_array_equal(features_ND, x_ND)
    assert data.features.shape == x_ND.shape and data.adjacency.shape == (NODES, NODES)
    np.testing.assert_array_equal(data.labels_N, labels_N)
    assert not features_ND[508].any() and labels_N[508] == -1  # in no file

    edges = [(0, 1), (0, 510), (1, 0), (2, 506), (506, 2), (510, 0)]
    places = zip(data.adjacency.rows_E, data.adjacency.columns_E, strict=True)
    assert [(int(i), int(j)) for i, j in places] == edges
    np.testing.assert_array_equal(data.adjacency.values_E, np.ones(6))
    assert data.class_names == ("0", "1")
    assert data.train.tolist() == [0, 1, 2, 3]
    assert data.validation.tolist() == list(range(4, 504))
    assert data.test.tolist() == [506, 507, 509, 510]
    types = {i.dtype for i in (data.train, data.validation, data.test, data.labels_N)}
    assert types == {np.dtype(np.int32)}


class Hostile:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("part", ["tx", "ally", "graph"])
@pytest.mark.parametrize("call", [os.system, eval])
def test_a_file_that_asks_for_more_is_refused_unread(tmp_path, part, call):
    network(tmp_path)
    mark = tmp_path / "mark"
    code = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')"}[call]
    path = tmp_path / f"ind.citeseer.{part}"
    path.write_bytes(pickle.dumps([Hostile(call, code)], protocol=2))
    message = rf"ind\.citeseer\.{part} asks for .*\.{call.__name__}, .* was not read"
    with pytest.raises(UserError, match=message):
        planetoid.load_planetoid("citeseer", str(tmp_path))
    assert not mark.exists()


def test_what_is_wrong_with_files_is_said(tmp_path):
    with pytest.raises(UserError, match="'core' is no .* cora, citeseer, pubmed"):
        planetoid.load_planetoid("core", str(tmp_path))
    network(tmp_path)
    load = functools.partial(
        planetoid.load_planetoid, "citeseer", str(tmp_path), download=False
    )
    write(tmp_path, "citeseer", "ty", np.eye(2)[[0, 1, 0]])
    with pytest.raises(UserError, match="'citeseer' that do not fit .*4 test nodes"):
        load()
    (tmp_path / "ind.citeseer.ty").write_bytes(b"\x80\x02]q\x00")
    with pytest.raises(UserError, match="ind.citeseer.ty is no pickle .* delete it"):
        load()
    (tmp_path / "ind.citeseer.ty").unlink()
    with pytest.raises(UserError, match=r"lacks ind\.citeseer\.ty: put the files"):
        load()


def test_missing_files_are_fetched_and_checked(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    _, labels_N = network(there)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=there)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(planetoid, "URL", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        try:
            with pytest.raises(UserError, match=r"citeseer\.x could .* put the files"):
                planetoid.load_planetoid("citeseer", str(here))
            assert not list(here.glob("ind.*"))  # of another checksum

            sums = {
                part: hashlib.sha256((there / f"ind.citeseer.{part}").read_bytes())
                for part in planetoid.SHA256["citeseer"]
            }
            sums = {part: digest.hexdigest() for part, digest in sums.items()}
            monkeypatch.setitem(planetoid.SHA256, "citeseer", sums)
            data = planetoid.load_planetoid("citeseer", str(here))
        finally:
            server.shutdown()
            thread.join()
    np.testing.assert_array_equal(data.labels_N, labels_N)
    again = planetoid.load_planetoid("citeseer", str(here), download=False)
    np.testing.assert_array_equal(again.test, data.test)
