"""A phase on its held-out images: as it trains, and once it is done."""

import time

import jax
import numpy as np

from ssl_jax.core import Metrics, TrainState, can
from ssl_jax.data.loading import Data
from ssl_jax.evaluate import reported
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import probing
from ssl_jax.train.phases import Phase
from ssl_jax.workdir.logs import Clock, Moment
from ssl_jax.workdir.phase_folder import PhaseFolder


class Evaluations:
    """Compiled by the first of them, so that no step waits for it before."""

    def __init__(self, phase: Phase, data: Data):
        self._data = data
        self._classifies = can(phase.algorithm, "predict") and "test" in data.eval_sets
        self._evaluation = compile_evaluation(phase.algorithm, phase.rows, phase.key)
        self._knn = probing.compile_knn(phase, data) if phase.section.knn else None
        self._counts_KK = None
        self.compile_seconds = 0.0  # but for k-NN's

    def at(self, state: TrainState, clock: Clock) -> tuple[dict[str, Metrics], Moment]:
        """(scores of each held-out set, computed when this returns; when the state's
        step was done). The clock is stopped for what compiles, and paused for the rest.
        """
        jax.block_until_ready(state)
        done = clock.now()
        if not self.compile_seconds:
            with clock.stopped():
                self._compile(state)
        with clock.paused():
            return self._scores(state), done

    def _compile(self, state):
        began = time.monotonic()
        for batches in self._data.eval_sets.values():
            jax.block_until_ready(self._evaluation.sums(state, [batches[0]]))
        self.compile_seconds = time.monotonic() - began

    def _scores(self, state):
        scores, counts_KK = {}, {}
        for name, batches in self._data.eval_sets.items():
            scores[name], counts_KK[name] = self._evaluation.sums(state, batches)
        if self._knn is not None:
            scores["test"]["knn_accuracy"] = self._knn(state)
        self._counts_KK = counts_KK.get("test")
        return jax.block_until_ready(scores)

    def finish(self, state: TrainState, folder: PhaseFolder) -> np.ndarray | None:
        """What is said of each held-out image by the last state goes to `folder`;
        counts_KK of the test images, [truth, prediction]; or, by an algorithm that does
        not classify, or without such images, nothing and None."""
        if not self._classifies:
            return None
        if self._counts_KK is None:  # resumed when only figures were left to draw
            self._scores(state)
        of_sets = {
            name: self._evaluation.said(state, batches)
            for name, batches in self._data.eval_sets.items()
        }
        rows, images = np.arange(0), np.zeros((0, 0, 0, 0), np.uint8)
        if self._data.graph is None:  # whose nodes are no images
            rows = reported.striking(*of_sets["test"])
            images = self._data.dataset.test_images_MHWC[rows]
        folder.write_said(of_sets, rows, images)
        return jax.device_get(self._counts_KK)
