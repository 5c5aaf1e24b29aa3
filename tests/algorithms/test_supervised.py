"""Cross-entropy on the labeled images alone, and what mixes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.shared import mixup
from ssl_jax.algorithms.supervised import Supervised
from ssl_jax.augment import weak_strong
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

LOGITS_BK = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], np.float32)
LABELS_B = jnp.array([0, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [None, ([1, 2], [0.75, 0.4])])
def test_a_label_is_spread_over_all_classes_and_mixed(smoothing, mixed):
    """optax has the same by smoothed one-hot labels, which are mixed by hand."""
    method = Supervised(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=weak_strong.build(),
        label_smoothing=smoothing,
    )
    images_BHWC = jnp.asarray(LOGITS_BK)[:, None, None]
    variables = method.model.init(jax.random.key(0), images_BHWC, train=False)
    params, model_state = variables["params"], {"batch_stats": variables["batch_stats"]}
    target_BK = np.eye(3)[LABELS_B]
    if mixed is not None:
        other_B, own_B = mixed = jax.tree.map(jnp.asarray, mixed, is_leaf=_is_list)
        own_B1 = np.asarray(own_B)[:, None]
        target_BK = own_B1 * target_BK + (1 - own_B1) * np.eye(3)[other_B]
    loss, (_, metrics) = method.loss(
        params, model_state, images_BHWC, LABELS_B, jax.random.key(1), mixed
    )
    target_BK = optax.smooth_labels(jnp.asarray(target_BK), smoothing)
    wanted = optax.softmax_cross_entropy(jnp.asarray(LOGITS_BK), target_BK).mean()
    assert loss == pytest.approx(float(wanted), rel=1e-6)
    assert metrics["accuracy"].compute() == 0.5  # of its own label, mixed or not


def _is_list(value):
    return isinstance(value, list)


def _transcribed_box(share, center, H, W):
    """The pixels that are left of the image: CutMix's `rand_bbox`, in NumPy."""
    left = np.ones((H, W))
    cut_h, cut_w = (int(side * np.sqrt(1.0 - share)) for side in (H, W))
    row, column = int(center[0] * H), int(center[1] * W)
    top, bottom = (np.clip(row + s * (cut_h // 2), 0, H) for s in (-1, 1))
    first, last = (np.clip(column + s * (cut_w // 2), 0, W) for s in (-1, 1))
    left[top:bottom, first:last] = 0
    return left


def test_a_box_is_that_of_cutmix():
    H, W, N = 12, 20, 400
    rng = np.random.default_rng(0)
    # Not where a side is a whole number but for rounding: float64 there, float32 here.
    share_N = rng.uniform(size=N).astype(np.float32)
    center_N2 = rng.uniform(size=(N, 2)).astype(np.float32)
    box = jax.vmap(lambda share, center: mixup.around_a_box(share, center, (H, W)))
    ours_NHW = jax.jit(box)(share_N, center_N2)
    drawn = zip(share_N, center_N2, strict=True)
    theirs_NHW = [_transcribed_box(*each, H, W) for each in drawn]
    np.testing.assert_array_equal(ours_NHW, theirs_NHW)
    inside_N = 1 - np.mean(ours_NHW, (1, 2))
    assert (inside_N <= 1 - share_N).all() and inside_N.max() > 0.6


@pytest.mark.parametrize(
    ("B", "mixup_alpha", "cutmix_alpha"), [(8, 0.5, 0.0), (8, 0.0, 1.0), (6, 0.5, 1.0)]
)
def test_an_image_is_mixed_as_its_label(B, mixup_alpha, cutmix_alpha):
    """In 60 steps: what was drawn is seen in it; 4 divides the batch, or not."""
    side, steps = 16, 60
    rng = np.random.default_rng(0)
    images = rng.normal(size=(B, side, side, 1)).astype(np.float32)
    # Image n is 1 in channel n, so that a mixture shows what it is made of.
    own = np.broadcast_to(np.eye(B)[:, None, None], (B, side, side, B))
    images = np.concatenate([images, own], -1).astype(np.float32)

    @jax.jit
    @jax.vmap
    def mixed(key):
        return mixup.mixed_or_cut(
            key,
            jnp.asarray(images),
            jnp.arange(B),
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
        )

    drawn = mixed(jax.random.split(jax.random.key(0), steps))
    cut, shares = [], []
    for mixed_BHWC, other_B, own_B in zip(*map(np.asarray, drawn), strict=True):
        assert sorted(other_B) == list(range(B)) and (other_B != np.arange(B)).all()
        own_BHW = np.stack([mixed_BHWC[n, ..., 1 + n] for n in range(B)])
        own_BHW1 = own_BHW[..., None]
        expected = own_BHW1 * images + (1 - own_BHW1) * images[other_B]
        np.testing.assert_allclose(mixed_BHWC, expected, atol=1e-6)
        np.testing.assert_allclose(own_B, own_BHW.mean((1, 2)), atol=1e-6)
        cut.append(bool(np.isin(own_BHW, (0, 1)).all()))
        if not cut[-1]:  # one lambda of all pixels, and the image is the larger part
            assert np.ptp(own_BHW, (1, 2)).max() == 0 and own_BHW.min() >= 0.5
        shares += [*own_B] if cut[-1] else []
    both = mixup_alpha and cutmix_alpha
    assert 0.25 < np.mean(cut) < 0.75 if both else all(cut) == bool(cutmix_alpha)
    if cutmix_alpha:  # whose boxes may be the larger part
        assert min(shares) < 0.4 and max(shares) > 0.9


def test_a_step_learns_from_mixed_images(monkeypatch):
    """As drawn; and what the network saw is what the loss is of."""
    views = WeakStrong(plain=lambda x: x, weak=lambda key, x: x, strong=None)
    method = Supervised(
        model=toy.Pixels(), tx=optax.sgd(0.1), views=views, mixup_alpha=1.0
    )
    batch = toy.batch(LOGITS_BK, [0, 1], LOGITS_BK)

    @jax.jit
    def one_step(batch, key):
        calls = toy.spied(monkeypatch, mixup, "mixed_or_cut")
        state = method.init(jax.random.key(0), batch)
        return *method.train_step(state, batch, key), [seen for _, seen in calls]

    after, metrics, [(images, other_B, own_B)] = one_step(batch, jax.random.key(1))
    own_B1 = np.asarray(own_B)[:, None]
    logits_BK = own_B1 * LOGITS_BK + (1 - own_B1) * LOGITS_BK[::-1]
    np.testing.assert_allclose(images[:, 0, 0], logits_BK, atol=1e-6)
    target_BK = own_B1 * np.eye(3)[:2] + (1 - own_B1) * np.eye(3)[[1, 0]]
    assert other_B.tolist() == [1, 0]

    def loss(weight):
        log_probs = jax.nn.log_softmax(weight * jnp.asarray(logits_BK))
        return -(target_BK * log_probs).sum(-1).mean()

    wanted, slope = jax.value_and_grad(loss)(1.0)
    assert metrics["loss"].compute() == pytest.approx(float(wanted), rel=1e-6)
    weight = float(after.params["weight"])
    assert weight == pytest.approx(1 - 0.1 * float(slope), rel=1e-6)


VIEWS = WeakStrong(
    plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x: x[..., ::-1]
)


def _started(**fields):
    """A step of a classifier whose features are pixels through BatchNorm, at first
    their averages of 0 and 1: (before, after, loss)."""
    decaying = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    model = Classifier(toy.Normalised(), 3)
    method = Supervised(model=model, tx=decaying, views=VIEWS, **fields)
    batch = toy.batch(LOGITS_BK, [0, 1], LOGITS_BK)
    before = method.init(jax.random.key(0), batch)
    step = jax.jit(method.train_step)
    after, metrics = step(before, batch, jax.random.key(1))
    return before, after, float(metrics["loss"].compute())


def _cross_entropy(state, features_BD):
    head = jax.tree.map(np.float64, state.params["head"])
    said_BK = toy.softmax(features_BD @ head["kernel"] + head["bias"])
    return -np.log(said_BK[[0, 1], [0, 1]]).mean()


def test_on_a_frozen_encoder_the_head_alone_learns():
    """Weight decay moves what has no gradient, too; and BatchNorm's moments rest."""
    before, after, loss = _started(frozen=True)
    for was, now in (
        (before.params["encoder"], after.params["encoder"]),
        (before.model_state, after.model_state),
    ):
        jax.tree.map(np.testing.assert_array_equal, was, now)
    assert loss == pytest.approx(_cross_entropy(before, LOGITS_BK), rel=1e-4)
    heads = before.params["head"], after.params["head"]
    assert not np.array_equal(*(head["kernel"] for head in heads))
    before, after, _ = _started()
    weights = (s.params["encoder"]["pixels"]["weight"] for s in (before, after))
    assert not np.array_equal(*weights)


def test_the_strong_view_is_taken_where_it_is_asked_for():
    before, _, loss = _started(strong=True, frozen=True)
    expected = _cross_entropy(before, LOGITS_BK[:, ::-1])
    assert loss == pytest.approx(expected, rel=1e-4)
    assert abs(expected - _cross_entropy(before, LOGITS_BK)) > 0.1
