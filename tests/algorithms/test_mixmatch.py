"""Mixing against plain Python, and MixMatch's loss by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import toy
from configs import cifar10
from ssl_jax import core
from ssl_jax.algorithms.mixmatch import MixMatch
from ssl_jax.algorithms.shared import mixup
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import losses

KEY = jax.random.key(0)
_mixup = jax.jit(mixup.mixup, static_argnames="alpha")


def test_sharpen_is_the_papers():
    rng = np.random.default_rng(0)
    probs_UK = rng.dirichlet(np.full(10, 0.3), size=50).astype(np.float32)
    for temperature in (0.1, 0.5, 1.0):
        expected = []
        for row in probs_UK.tolist():
            powers = [p ** (1 / temperature) for p in row]
            expected.append([p / sum(powers) for p in powers])
        ours = losses.sharpen(jnp.asarray(probs_UK), temperature)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_array_equal(losses.sharpen(jnp.eye(3), 0.01), np.eye(3))


def test_by_rows_keeps_what_goes_together():
    x = jnp.arange(4)[:, None]
    u = jnp.arange(10, 18)[:, None]  # two for each labeled image
    rows = mixup.by_rows(x, u, u + 100)
    assert rows.shape == (4, 5, 1)
    assert rows[:, :, 0].tolist() == [
        [0, 10, 11, 110, 111],
        [1, 12, 13, 112, 113],
        [2, 14, 15, 114, 115],
        [3, 16, 17, 116, 117],
    ]


def _mixed(B, G, alpha=0.75, key=KEY):
    """What mixup did to B * G images: (images as shares of the originals, partners n,
    shares lambda', the target as mixed, the target as it was), the first two axes in
    one."""
    N = B * G
    # Image n is 1 in place n, so that a mixture shows what it is made of.
    images = jnp.eye(N).reshape(B, G, N, 1, 1)
    rng = np.random.default_rng(1)
    target = rng.dirichlet(np.ones(5), size=(B, G)).astype(np.float32)
    images, mixed = _mixup(key, images, jnp.asarray(target), alpha=alpha)
    shares_NN = np.asarray(images).reshape(N, N)
    others_NN = shares_NN * (1 - np.eye(N))
    return shares_NN, others_NN.argmax(1), np.diag(shares_NN), mixed, target


@pytest.mark.parametrize(("B", "G"), [(16, 3), (8, 4), (6, 3)])
def test_every_image_is_a_partner_once_and_of_another_row(B, G):
    shares_NN, partner_N, own_N, _, _ = _mixed(B, G)
    assert sorted(partner_N) == list(range(B * G))
    assert (own_N >= 0.5).all()
    np.testing.assert_array_equal((shares_NN > 0).sum(1), 2)
    np.testing.assert_allclose(shares_NN.sum(1), 1, atol=1e-6)
    assert (partner_N // G != np.arange(B * G) // G).all()


@pytest.mark.parametrize("B", [16, 6])
def test_target_is_mixed_as_its_image(B):
    _, partner_N, own_N, mixed, target = _mixed(B, 3)
    target = target.reshape(-1, 5).astype(np.float64).tolist()
    expected = [
        [share * a + (1 - share) * b for a, b in zip(target[n], target[m], strict=True)]
        for n, (m, share) in enumerate(zip(partner_N, own_N.tolist(), strict=True))
    ]
    np.testing.assert_allclose(np.reshape(mixed, (-1, 5)), expected, atol=1e-6)


def test_lambda_is_beta_and_rows_and_groups_meet_evenly():
    B, G, alpha = 1024, 3, 0.75
    key_partner, _ = jax.random.split(KEY)
    images = jnp.zeros((B, G, 1, 1, 1))
    own = jnp.ones((B, G, 1))
    # A target of 1 mixed with targets of 1, but for 0 in every other row: no pair in
    # which both are 1 tells lambda', so read it from the pairs that differ.
    target = own.at[::2].set(0.0)
    _, mixed = _mixup(KEY, images, target, alpha=alpha)
    mixed = np.asarray(mixed)[..., 0]
    share = np.where(np.arange(B)[:, None] % 2, mixed, 1 - mixed)[
        (mixed > 0) & (mixed < 1)
    ]
    beta = stats.beta(alpha, alpha)
    test = stats.kstest(share, lambda x: beta.cdf(x) - beta.cdf(1 - x))
    assert len(share) > B and test.pvalue > 0.01, test

    partner_BG = np.asarray(
        jax.jit(mixup.partners, static_argnums=(1, 2))(key_partner, B, G)
    )
    onwards = (partner_BG[::4, 0] // G) - np.arange(B)[::4]
    assert (partner_BG // G // 4 == np.arange(B)[:, None] // 4).all()  # in its cell
    for counts in (
        np.bincount(onwards)[1:],  # 1 to 3 rows on
        np.bincount(partner_BG[:, 0] % G),  # the group that labeled images meet
        np.bincount(partner_BG[:, 2] % G),
    ):
        assert len(counts) == 3 and stats.chisquare(counts).pvalue > 0.01, counts


@pytest.mark.parametrize("num_devices", [2, 4])
def test_devices_neither_exchange_images_nor_change_anything(num_devices):
    B, U, K = 16, 32, 10
    rng = np.random.default_rng(0)
    x, u, v = (rng.normal(size=(n, 4, 4, 3)).astype(np.float32) for n in (B, U, U))
    label, guess = (rng.dirichlet(np.ones(K), n).astype(np.float32) for n in (B, U))

    def mixed(x, u, v, label, guess):
        images, target = mixup.mixup(
            KEY, mixup.by_rows(x, u, v), mixup.by_rows(label, guess, guess), 0.75
        )
        return mixup.flat(images), target

    args = (x, u, v, label, guess)
    expected = jax.jit(mixed)(*args)
    mesh = core.make_mesh(jax.devices()[:num_devices])
    rows = jax.NamedSharding(mesh, jax.P("data"))
    with jax.set_mesh(mesh):
        program = (
            jax.jit(mixed, in_shardings=rows, out_shardings=rows).lower(*args).compile()
        )
        ours = program(*jax.device_put(args, rows))
    assert not re.findall(
        r" (?:all|collective|reduce-scatter)[\w-]*\(", program.as_text()
    )
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


LABELED_BK = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
UNLABELED_UK = np.array([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 3.0]], np.float32)
BATCH = toy.batch(LABELED_BK, [0, 1], UNLABELED_UK)


def _mixmatch(**fields):
    """Its weak view adds a random number to the first pixel."""

    def weak(key, images):
        noise = jax.random.normal(key, images.shape[:1])
        return images.at[..., 0].add(noise[:, None, None])

    views = WeakStrong(plain=lambda x: x, weak=weak, strong=None)
    return MixMatch(model=toy.Pixels(), tx=optax.sgd(0.1), views=views, **fields)


def test_loss_is_the_papers_by_hand(monkeypatch):
    """The two views, guesses and pairs as drawn; all that follows by hand."""
    algorithm = _mixmatch(unlabeled_weight=8.0, rampup_steps=4)

    @jax.jit
    def one_step(batch, key):
        calls = toy.spied(monkeypatch, mixup, "mixup")
        state = algorithm.init(KEY, batch).replace(step=jnp.int32(1))
        return *algorithm.train_step(state, batch, key), calls

    after, metrics, calls = one_step(BATCH, KEY)
    [((_, images, target, _), mixed)] = calls
    images, target, (mixed_images, mixed_target) = jax.tree.map(
        np.asarray, (images, target, mixed)
    )

    # Rows: a labeled image, then two unlabeled ones in a first and a second view.
    assert images.shape == (2, 5, 1, 1, 2) and target.shape == (2, 5, 2)
    noise = (
        images[:, 1:].reshape(2, 2, 2, 2).swapaxes(0, 1).reshape(2, 4, 2) - UNLABELED_UK
    )
    assert len(np.unique(noise[..., 0])) == 8 and (noise[..., 1] == 0).all()
    # eqs. 6 and 7 with T = 1/2
    views = noise + UNLABELED_UK
    mean_UK = (toy.softmax(views[0]) + toy.softmax(views[1])) / 2
    guess_UK = mean_UK**2 / (mean_UK**2).sum(-1, keepdims=True)
    np.testing.assert_array_equal(target[:, 0], np.eye(2))
    for view in (slice(1, 3), slice(3, 5)):
        np.testing.assert_allclose(target[:, view].reshape(4, 2), guess_UK, atol=1e-6)

    def losses(weight):
        logits = weight * mixed_images.reshape(10, 2)
        log_probs = jax.nn.log_softmax(logits).reshape(2, 5, 2)
        labeled = -(mixed_target * log_probs)[:, 0].sum(-1).mean()  # eq. 3
        square = ((mixed_target - jnp.exp(log_probs)) ** 2)[:, 1:]
        unlabeled = square.sum() / (2 * 8)  # eq. 4: L |U'|
        return labeled + 8.0 * 1 / 4 * unlabeled, (
            labeled,
            unlabeled,
        )  # ramp: step 1 of 4

    (loss, (labeled, unlabeled)), slope = jax.value_and_grad(losses, has_aux=True)(1.0)
    ours = {k: m.compute() for k, m in metrics.items() if k != "calibration"}
    assert ours["labeled_loss"] == pytest.approx(float(labeled), rel=1e-6)
    assert ours["unlabeled_loss"] == pytest.approx(float(unlabeled), rel=1e-6)
    assert ours["loss"] == pytest.approx(float(loss), rel=1e-6)
    # No gradient through guesses, mixed or not.
    assert float(after.params["weight"]) == pytest.approx(
        1 - 0.1 * float(slope), rel=1e-6
    )
    # The guess moves no statistics: one pass over 2 + 2 * 4 images.
    assert int(after.model_state["batch_stats"]["seen"]) == 10
    known = mean_UK.argmax(-1)[:3] == 0
    assert float(ours["kept_accuracy"]) == pytest.approx(known.mean())
    assert float(ours["share_kept"]) == 1


def test_ramp_is_linear_and_ends():
    steps = [float(core.ramp(jnp.int32(step), 8)) for step in (0, 2, 8, 100)]
    assert steps == [0, 0.25, 1, 1]
    assert float(core.ramp(jnp.int32(0), 0)) == 1


def test_cifar10_is_the_papers_recipe():
    config = cifar10.get_config("mixmatch").train
    assert config.batch_size == 64 and config.unlabeled_ratio == 1
    assert config.algorithm.to_dict() == {
        "name": "mixmatch.MixMatch",
        "unlabeled_weight": 75.0,
        "rampup_steps": 16_000,
        "num_views": 2,
        "temperature": 0.5,
        "alpha": 0.75,
        "ema_decay": 0.999,
        "ema_warmup": False,
    }
