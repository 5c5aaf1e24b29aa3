"""A run as a whole: what it says of its data before it trains on them."""

import jax
import pytest

import tiny
from ssl_jax import core
from ssl_jax.train import run, sections

ONE = jax.devices()[:1]


@pytest.mark.parametrize(("num_labels", "warned"), [(0, 1), (40, 0)])
def test_without_unlabeled_images_a_method_says_what_it_is(num_labels, warned, caplog):
    config = tiny.config()
    config.data.num_labels = num_labels
    data = tiny.load(config, core.make_mesh(ONE))
    run.check(sections.parse(config), data)
    said = "train: every unlabeled image is a labeled one, so that fixmatch.FixMatch is"
    assert caplog.text.count(said) == warned
