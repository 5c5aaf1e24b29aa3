"""Linear probes: a linear classifier on frozen features, as a measure of them.

The hyper-parameter is chosen by mean accuracy on held-out folds of the training
images; the test set plays no part, since no function here is given it. Every value
trains with every fold left out, and then the chosen one on all images.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax.errors import UserError
from ssl_jax.graphs import distances

_HIGHEST = jax.lax.Precision.HIGHEST  # a GPU would else multiply in TF32
_MEMORY = 10  # pairs of steps and gradients that L-BFGS keeps, as in SciPy
_PATIENCE = 10  # L-BFGS's iterations without a lower loss: float32 can do no more


class Probe(NamedTuple):
    """A linear classifier of standardised features; use `logits`."""

    weights_DK: jax.Array
    bias_K: jax.Array
    mean_D: np.ndarray  # of the features it was trained on, and in their precision
    std_D: np.ndarray  # likewise; 1 where a feature is constant
    chosen: float  # the learning rate, or the strength of L2
    held_out: dict[float, float]  # accuracy on held-out training images, by value
    converged: bool | None = None  # None: the number of steps was fixed


def logits(probe: Probe, features_ND: jax.Array) -> jax.Array:
    """logits_NK of features as the encoder gives them."""
    return _logits(
        {"weights_DK": probe.weights_DK, "bias_K": probe.bias_K},
        _standardise(features_ND, probe.mean_D, probe.std_D),
    )


def folds(labels_N: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """fold_N int32, 0..num_folds-1: each class is shuffled and dealt out in turn.

    The next class goes on with the fold after, so that a class's image counts differ by
    at most one between folds, and so do the folds' sizes. A class with fewer images
    than folds is missing from some.
    """
    labels_N = np.asarray(labels_N)
    rng = np.random.default_rng(seed)
    shuffled_N = rng.permutation(len(labels_N))
    by_class_N = shuffled_N[np.argsort(labels_N[shuffled_N], kind="stable")]
    fold_N = np.empty(len(labels_N), np.int32)
    fold_N[by_class_N] = np.arange(len(labels_N)) % num_folds
    return fold_N


def sgd(
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    num_classes: int,
    learning_rates: Sequence[float],
    epochs: int,
    batch_size: int,
    num_folds: int,
    seed: int,
) -> Probe:
    """BYOL's linear evaluation (arXiv:2006.07733, appendix), on frozen features.

    Nesterov momentum 0.9, cosine decay of the learning rate to 0, no other
    regularisation. Departures: features are standardised, and are of one view that
    does not change, since they are extracted once; rates are taken as they stand, where
    the authors' code multiplies its 0.2, one of them, by the batch / 256
    (google-deepmind/deepmind-research, byol/configs/eval.py and utils/schedules.py at
    4822a45). With fewer images than a batch, each step takes all of them.

    Args:
      learning_rates: to choose from, for the paper's 1,024 images a step; they are
        multiplied by the images of a step here / 1,024.
      epochs: the last incomplete batch of each is dropped.
      num_folds: 1: one fifth is held out, once.
      seed: of folds and batches.

    Raises:
      UserError: labels, features or num_folds do not fit.
    """
    data = _prepare(features_ND, labels_N, num_classes, num_folds, seed)
    batch_size = min(batch_size, len(labels_N))
    fit = partial(
        _sgd,
        scale=batch_size / 1024,
        key=jax.random.key(seed),
        num_classes=num_classes,
        epochs=epochs,
        batch_size=batch_size,
    )
    contenders = fit(data, np.array(learning_rates, np.float32))
    chosen, held_out = _choose(contenders, data, learning_rates)
    params = _only(fit(_whole(data), np.array([chosen], np.float32)))
    return Probe(**params, **data.scaling, chosen=chosen, held_out=held_out)


@partial(jax.jit, static_argnames=("num_classes", "epochs", "batch_size"))
def _sgd(data, rates_V, *, scale, key, num_classes, epochs, batch_size):
    """The parameters, [V, F, ...]: every rate on every selection, by equal batches."""
    N, D = data.X_ND.shape
    steps = N // batch_size

    def fit(rate, kept_N):
        schedule = optax.cosine_decay_schedule(rate * scale, epochs * steps)
        tx = optax.sgd(schedule, momentum=0.9, nesterov=True)

        def step(carry, batch_B):
            params, opt_state = carry
            batch = (data.X_ND[batch_B], data.labels_N[batch_B], kept_N[batch_B])
            updates, opt_state = tx.update(jax.grad(_loss)(params, *batch), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        def epoch(carry, key):
            order = jax.random.permutation(key, N)[: steps * batch_size]
            return jax.lax.scan(step, carry, order.reshape(steps, batch_size))

        params = _zeros(D, num_classes)
        keys = jax.random.split(key, epochs)
        (params, _), _ = jax.lax.scan(epoch, (params, tx.init(params)), keys)
        return params

    return jax.vmap(jax.vmap(fit, (None, 0)), (0, None))(rates_V, data.kept_FN)


def logistic_regression(
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    num_classes: int,
    l2s: Sequence[float],
    num_folds: int,
    seed: int,
    tolerance: float = 1e-5,
    max_iterations: int = 500,
) -> Probe:
    """Multinomial logistic regression: mean cross-entropy + l2 / 2 |W|^2, by L-BFGS.

    scikit-learn's with C = 1 / (N l2), on standardised features; the bias is free.

    Args:
      l2s: strengths to choose from.
      num_folds: 1: one fifth is held out, once.
      seed: of the folds.
      tolerance: the fit on all images has converged when its gradient is shorter;
        float32 goes to about 1e-6. The fits to choose from stop at 10 times as much.
      max_iterations: where a fit stops in any case; `converged` tells.

    Raises:
      UserError: labels, features or num_folds do not fit.
    """
    data = _prepare(features_ND, labels_N, num_classes, num_folds, seed)
    fit = partial(
        _lbfgs,
        data.X_ND,
        data.labels_N,
        num_classes=num_classes,
        max_iterations=max_iterations,
    )
    # One by one, each until it is done: under vmap all would go on with the slowest.
    contenders = _stack(
        _stack(fit(kept_N, l2, tolerance=10 * tolerance)[0] for kept_N in data.kept_FN)
        for l2 in l2s
    )
    chosen, held_out = _choose(contenders, data, l2s)
    everything_N = np.ones_like(data.kept_FN[0])
    params, norm = fit(everything_N, chosen, tolerance=tolerance)
    converged = bool(norm < tolerance)
    return Probe(
        **params, **data.scaling, chosen=chosen, held_out=held_out, converged=converged
    )


@partial(jax.jit, static_argnames="num_classes")
def _lbfgs(X_ND, labels_N, kept_N, l2, *, tolerance, max_iterations, num_classes):
    """The parameters, and the length of their gradient."""
    tx = optax.lbfgs(memory_size=_MEMORY)

    def objective(params):
        penalty = l2 / 2 * (params["weights_DK"] ** 2).sum()
        return _loss(params, X_ND, labels_N, kept_N) + penalty

    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry):
        params, opt_state, _, iteration, least, stalled = carry
        value, grad = value_and_grad(params, state=opt_state)
        updates, opt_state = tx.update(
            grad, opt_state, params, value=value, grad=grad, value_fn=objective
        )
        params = optax.apply_updates(params, updates)
        # The line search leaves the gradient of where it stopped.
        norm = optax.tree.norm(optax.tree_utils.tree_get(opt_state, "grad"))
        stalled = jnp.where(value < least, 0, stalled + 1)
        least = jnp.minimum(value, least)
        return params, opt_state, norm, iteration + 1, least, stalled

    def going(carry):
        _, _, norm, iteration, _, stalled = carry
        more = (iteration < max_iterations) & (stalled < _PATIENCE)
        return (norm >= tolerance) & more

    params = _zeros(X_ND.shape[1], num_classes)
    infinite = jnp.float32(jnp.inf)
    start = (params, tx.init(params), infinite, 0, infinite, 0)
    params, _, norm, *_ = jax.lax.while_loop(going, step, start)
    return params, norm


def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _only(tree):
    """The fit of one value on one selection, from a tree of [1, 1, ...]."""
    return jax.tree.map(lambda leaf: leaf[0, 0], tree)


def _zeros(D, K):
    return {"weights_DK": jnp.zeros((D, K)), "bias_K": jnp.zeros(K)}


def _logits(params, X_ND):
    products_NK = jnp.matmul(X_ND, params["weights_DK"], precision=_HIGHEST)
    return products_NK + params["bias_K"][None, :]


def _loss(params, X_ND, labels_N, kept_N):
    """Mean cross-entropy over the kept rows."""
    loss_N = optax.softmax_cross_entropy_with_integer_labels(
        _logits(params, X_ND), labels_N
    )
    # A small batch may be held out as a whole.
    return (loss_N * kept_N).sum() / jnp.maximum(kept_N.sum(), 1)


class _Data(NamedTuple):
    X_ND: jax.Array  # standardised
    labels_N: jax.Array  # int32
    kept_FN: np.ndarray  # float32: 0 where the fold is held out, else 1
    scaling: dict[str, np.ndarray]  # mean_D and std_D


def _whole(data):
    """The same with one selection: all."""
    return data._replace(kept_FN=np.ones_like(data.kept_FN[:1]))


def _prepare(features_ND, labels_N, num_classes, num_folds, seed):
    features_ND, labels_N = distances.real(features_ND), np.asarray(labels_N)
    if features_ND.ndim != 2 or labels_N.shape != features_ND.shape[:1]:
        raise UserError(
            f"features {features_ND.shape} and labels {labels_N.shape}: give "
            "[rows, features] and one label for each row."
        )
    if len(labels_N) and not 0 <= labels_N.min() <= labels_N.max() < num_classes:
        raise UserError(
            f"labels from {labels_N.min()} to {labels_N.max()}: they must be 0 to "
            f"{num_classes - 1}; leave out what has no label."
        )
    dealt = num_folds if num_folds > 1 else 5
    if not 1 <= num_folds <= dealt <= len(labels_N):
        raise UserError(
            f"num_folds={num_folds} with {len(labels_N)} labels: use 2 or more, not "
            "more than there are labels, or 1 to hold out one fifth of 5 or more."
        )
    # In float64, where a constant feature has no spread but for rounding.
    with np.errstate(invalid="ignore"):  # what is not finite is told below
        mean_D = features_ND.mean(axis=0, dtype=np.float64)
        std_D = features_ND.std(axis=0, dtype=np.float64)
    if not np.isfinite(std_D).all():
        raise UserError(
            f"{(~np.isfinite(std_D)).sum()} of {len(std_D)} features are not finite: "
            "the encoder diverged; probe an earlier checkpoint."
        )
    rounding = 1e-6 if features_ND.dtype == np.float32 else 1e-14
    std_D = np.where(std_D > rounding * np.abs(mean_D), std_D, 1)
    mean_D, std_D = (x.astype(features_ND.dtype) for x in (mean_D, std_D))
    fold_N = folds(labels_N, dealt, seed)
    kept_FN = fold_N[None, :] != np.arange(num_folds)[:, None]
    return _Data(
        _standardise(features_ND, mean_D, std_D),
        jnp.asarray(labels_N, jnp.int32),
        kept_FN.astype(np.float32),
        {"mean_D": mean_D, "std_D": std_D},
    )


def _standardise(features_ND, mean_D, std_D):
    if mean_D.dtype == np.float64:  # before it is narrowed
        features_ND = np.asarray(features_ND, np.float64)
        return jnp.float32((features_ND - mean_D[None, :]) / std_D[None, :])
    return (jnp.asarray(features_ND, jnp.float32) - mean_D[None, :]) / std_D[None, :]


def _choose(params, data, values):
    """(the best value, accuracy by value), both from held-out rows.

    Few labels give many equal accuracies: of those the lower cross-entropy wins.
    """
    correct_VF, loss_VF = _judge(params, data)
    held_F = (1 - data.kept_FN).sum(axis=1, dtype=np.float64)
    accuracy_V = (np.asarray(correct_VF) / held_F[None, :]).mean(axis=1).tolist()
    loss_V = np.asarray(loss_VF).mean(axis=1)
    best = min(range(len(values)), key=lambda v: (-accuracy_V[v], loss_V[v]))
    values = [float(value) for value in values]
    return values[best], dict(zip(values, accuracy_V, strict=True))


@jax.jit
def _judge(params, data):
    """Of each value's held-out rows, by fold: the number correct, and the mean loss."""

    def of_fold(params, kept_N):
        correct_N = _logits(params, data.X_ND).argmax(axis=-1) == data.labels_N
        held_N = 1 - kept_N
        loss = _loss(params, data.X_ND, data.labels_N, held_N)
        return (correct_N * held_N).sum(), loss

    def of_value(params):
        return jax.vmap(of_fold)(params, data.kept_FN)

    return jax.lax.map(of_value, params)  # one value at a time: [F, N, K] logits
