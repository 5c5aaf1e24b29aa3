"""The estimators are scikit-learn's: by its own tests, its checks of any estimator, and
its results on graphs that are given."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from sklearn import semi_supervised
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import _label_propagation as theirs
from sklearn.utils.estimator_checks import check_estimator

import ssl_jax
from ssl_jax.api.on_graphs import LabelPropagation, LabelSpreading
from ssl_jax.errors import UserError

OURS = {LabelPropagation, LabelSpreading}
FILE = Path(theirs.__file__).parent / "tests" / "test_label_propagation.py"
# check_estimator gives metric="precomputed" distances, as neighbours' estimators take
# them; here X is a graph, whose weights grow with similarity.
NOT_OF_A_GRAPH = {
    "check_classifiers_train": "distances are given as weights, so that the farthest "
    "decide, and it is not accurate"
}


class Outcomes:
    """A plugin of pytest's."""

    def __init__(self):
        self.failed, self.passed, self.of = {}, 0, set()

    def pytest_collection_modifyitems(self, items):
        params = [getattr(item, "callspec", None) for item in items]
        self.of = {
            p.params["Estimator"] for p in params if p and "Estimator" in p.params
        }

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed[report.nodeid.partition("::")[2]] = report.longreprtext
        self.passed += report.when == "call" and report.passed


def test_their_own_tests_pass(monkeypatch):
    """scikit-learn's file as it is installed, with our classes in place of its own."""
    for ours in OURS:
        monkeypatch.setattr(theirs, ours.__name__, ours)
    outcomes = Outcomes()
    options = ["-q", "-n0", "-c", "/dev/null", "--rootdir", str(FILE.parents[2])]
    options += ["-p", "no:cacheprovider", "-W", "ignore", "--import-mode=importlib"]
    pytest.main([str(FILE), *options], plugins=[outcomes])
    assert outcomes.of == OURS
    assert outcomes.failed == {}
    assert outcomes.passed > 150


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [(LabelSpreading(), {}), (LabelPropagation(metric="precomputed"), NOT_OF_A_GRAPH)],
)
def test_checks_of_any_estimator(estimator, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of few steps
        found = check_estimator(
            estimator, expected_failed_checks=expected, on_skip=None, on_fail=None
        )
    by_status = {}
    for check in found:
        by_status.setdefault(check["status"], set()).add(check["check_name"])
    assert by_status.get("failed", set()) == set()
    assert by_status.get("xfail", set()) == expected.keys()
    assert len(by_status["passed"]) > 40


def test_parameters_and_attributes_are_theirs():
    X, y = np.eye(4) + np.arange(4)[:, None], ["b", "a", "b", "a"]
    for ours in OURS:
        its = getattr(semi_supervised, ours.__name__)
        mine = ours().get_params()
        assert mine.pop("metric") == "euclidean"
        assert mine == its().get_params()
        fitted = [set(vars(made().fit(X, y))) for made in (ours, its)]
        public = [{a for a in each if a[0] != "_"} for each in fitted]
        assert public[0] - {"metric"} == public[1] - {"nn_fit", "alpha"} | (
            {"alpha"} & public[0]
        )
        assert getattr(ssl_jax, ours.__name__) is ours


def graph(sparse):
    """Two clusters whose points do not all hear from whom they are heard by."""
    rng = np.random.default_rng(0)
    weights_NN = rng.uniform(size=(30, 30)) * (rng.uniform(size=(30, 30)) < 0.2)
    weights_NN[:15, 15:] *= 0.1
    weights_NN[15:, :15] *= 0.1
    weights_NN += np.eye(30)
    labels_N = np.full(30, -1)
    labels_N[[0, 1, 16]] = 7, 7, 3
    return scipy.sparse.csr_matrix(weights_NN) if sparse else weights_NN, labels_N


@pytest.mark.parametrize("name", ["LabelSpreading", "LabelPropagation"])
@pytest.mark.parametrize("sparse", [False, True])
def test_given_graphs(name, sparse):
    weights_NN, labels_N = graph(sparse)
    new_MN = weights_NN[5:8]

    def kernel(x_ND, y_MD):
        return weights_NN.copy() if len(y_MD) == 30 else new_MN.T

    X, how = np.arange(30.0)[:, None], dict(max_iter=1000, tol=1e-6)
    its = getattr(semi_supervised, name)(kernel=kernel, **how).fit(X, labels_N)
    ours = getattr(ssl_jax, name)(metric="precomputed", **how)
    ours.fit(weights_NN, labels_N)
    close = dict(rtol=1e-9, atol=1e-12)
    distributions_NK = its.label_distributions_
    np.testing.assert_allclose(ours.label_distributions_, distributions_NK, **close)
    assert ours.n_iter_ == its.n_iter_
    assert ours.classes_.tolist() == [3, 7]
    np.testing.assert_array_equal(ours.transduction_, its.transduction_)
    probs_MK = its.predict_proba(X[:3])
    np.testing.assert_allclose(ours.predict_proba(new_MN), probs_MK, **close)
    called = getattr(ssl_jax, name)(kernel=kernel, **how).fit(X, labels_N)
    np.testing.assert_allclose(called.predict_proba(X[:3]), probs_MK, **close)


def test_what_is_no_graph_is_refused():
    weights_NN, labels_N = graph(sparse=False)
    fit = LabelSpreading(metric="precomputed").fit
    for wrong, said in [
        (weights_NN[:, :9], "give a row and a column"),
        (-weights_NN, "Negative values in data"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            fit(wrong, labels_N)
    called = LabelSpreading(kernel=lambda x, y: weights_NN[: len(x), : len(y)])
    called.fit(weights_NN, labels_N)
    called.kernel = lambda x, y: weights_NN[:9, : len(y)]
    with pytest.raises(UserError, match="a column for each point"):
        called.predict(weights_NN[:3])
    with pytest.raises(UserError, match="metric='cosine'"):
        LabelSpreading(metric="cosine").fit(weights_NN, labels_N)
    points_N = np.arange(30.0)
    with pytest.warns(UserWarning, match="as distances are"):
        fit(abs(points_N[:, None] - points_N[None, :]), labels_N)


def test_it_says_so_where_it_has_not_converged():
    X, y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 2.5]]), [0, 1, -1]
    with pytest.warns(ConvergenceWarning, match="max_iter=1 was reached"):
        fitted = LabelSpreading(max_iter=1).fit(X, y)
    assert fitted.n_iter_ == 1
