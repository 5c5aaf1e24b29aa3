"""A classifier of images by fit(X, y) and predict(X), as scikit-learn's estimators."""

import os

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ssl_jax.api import finished, fitting, pools


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Learns from images of which few have labels, where scikit-learn has
    SelfTrainingClassifier: y is -1 where there is none.

        model = ImageClassifier(method="flexmatch", budget_minutes=5).fit(X, y)
        model.predict(new_images)

    X is as `fitting.fit` takes images: an array [N, H, W, C], or names of files. With
    numbers that are no images use SelfTrainingClassifier, or LabelSpreading.

    Args:
      method, config, settings, budget_minutes, seed, workdir: as of `fitting.fit`; of
        each fit a new workdir in ./runs where None is given.

    Attributes:
      classes_: the labels, sorted, without -1.
      classifier_: the `Classifier` that the run made.
      transduction_: y, and where it is -1 what the network says.
      workdir_: of the run.
    """

    def __init__(
        self,
        method="fixmatch",
        *,
        config="folder",
        settings=None,
        budget_minutes=0.0,
        seed=0,
        workdir=None,
    ):
        self.method = method
        self.config = config
        self.settings = settings
        self.budget_minutes = budget_minutes
        self.seed = seed
        self.workdir = workdir

    def fit(self, X, y):
        """Trains a run; the estimator itself.

        Raises:
          UserError: as `fitting.fit`.
        """
        self.classifier_ = fitting.fit(
            X,
            y,
            method=self.method,
            config=self.config,
            settings=self.settings or {},
            budget_minutes=self.budget_minutes,
            seed=self.seed,
            workdir=self.workdir,
        )
        self.workdir_ = os.fspath(self.classifier_.workdir)
        y = list(y)  # by place, where pandas would have rows by their names
        unlabeled_N = np.array([pools.is_none(label) for label in y])
        labeled = np.flatnonzero(~unlabeled_N)
        self.classes_ = np.unique([y[i] for i in labeled])
        self.transduction_ = self.predict(X)
        self.transduction_[labeled] = [y[i] for i in labeled]
        return self

    def predict(self, X):
        """The likeliest class of each image, [N], of the labels' type."""
        probs_NK = self.predict_proba(X)
        return self.classes_[probs_NK.argmax(axis=1)]

    def predict_proba(self, X):
        """[N, classes], float32; columns are `classes_`."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict_proba(X)

    def __getstate__(self):
        """The network stays in its workdir, from which a copy loads it."""
        return {k: v for k, v in super().__getstate__().items() if k != "classifier_"}

    def __setstate__(self, state):
        super().__setstate__(state)
        if "workdir_" in state:
            self.classifier_ = finished.load(self.workdir_)
