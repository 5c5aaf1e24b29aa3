"""What a run says of its images, when it is asked afterwards."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import core
from ssl_jax.data import feeds, sources
from ssl_jax.data.splits import Split
from ssl_jax.train import restored

DIGITS = sources.load("digits")
POOL = np.setdiff1d(np.arange(700, dtype=np.int32), [4, 9])  # which validate


@pytest.mark.parametrize("changed", [False, True])
def test_each_image_is_asked_about_as_itself(changed, monkeypatch):
    """By transduction of the pool, whose images lie as `feeds.all_rows` has them; or,
    where others are there since, by the classifier, in batches of which the last is
    not full."""
    mesh = core.make_mesh()
    split = Split(POOL[::7], np.setdiff1d(POOL, POOL[::14]), np.int32([4, 9]))
    batch = feeds.all_rows(DIGITS, split, mesh)

    def shade(images_BHWC):
        """Of two classes, by the mean of the image."""
        mean_B = images_BHWC.reshape(len(images_BHWC), -1).mean(1) / 255
        return jnp.stack([mean_B, 1 - mean_B], -1)

    said = {  # how: logits or logarithms
        "transduce": lambda state: jnp.log(shade(state["image"])),
        "predict": lambda state, batch: jnp.log(2 * shade(batch["image"])),
    }
    phase = SimpleNamespace(algorithm=SimpleNamespace(**said), mesh=mesh)
    monkeypatch.setattr(restored, "_restored", lambda *_: batch)
    data = SimpleNamespace(split=split, dataset=DIGITS)
    trained = restored.Trained(phase, data, changed, None)
    index_M = np.random.default_rng(0).permutation(POOL)[:600]
    asked = []
    if not changed:
        monkeypatch.setattr(restored, "on_images", lambda *_: asked.append(1))
    probs_MK = restored.of_pool(trained, index_M)
    expected_MK = jax.device_get(shade(jnp.asarray(DIGITS.images_NHWC[index_M])))
    np.testing.assert_allclose(probs_MK, expected_MK, rtol=1e-5)
    assert not asked
