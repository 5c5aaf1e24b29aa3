"""PyTorch's side of experiments/speed/peers.py does the same work as ours."""

import dataclasses
import random

import jax
import numpy as np
import pytest
from absl import flags

from committed import assert_of_today, read
from experiments.speed import pillow_views, tables
from ssl_jax import core
from ssl_jax.errors import UserError

torch = pytest.importorskip("torch")

from experiments.speed import alone, one_step, peers, works  # noqa: E402
from experiments.speed.torch_peers import batched, pillow  # noqa: E402

FILL = dict(flip=True, shift=4, mean=(0.0,), std=(1.0,))
WEAK_STRONG = dict(FILL, weak="shift", strong="randaugment_google")
CROPS = dict(
    FILL, side=12, area=(0.2, 1.0), jitter=1.0, brightness=0.4, contrast=0.4,
    saturation=0.2, hue=0.1, grey=0.5, blur=(1.0, 0.1), solarize=(0.0, 1.0),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def given(*argv):
    parsed = flags.FlagValues()
    peers.define_flags(parsed)
    parsed(["peers", "--debug", "--threads=1", "--workers=1", *argv])
    return parsed


def test_one_step_is_the_same_or_is_told():
    """In float64, of fewer images; and not the same without weight decay."""
    work, whole = works.WORKS["digits"], works.configured("digits", debug=True)
    whole.train.batch_size = 32
    config = one_step.fewer(whole, work.phase)
    assert (config.train.batch_size, whole.train.batch_size) == (one_step.BATCH, 32)
    assert config.train.unlabeled_ratio == whole.train.unlabeled_ratio == 2
    dataset = works.made_up(work.shape, 512)
    step = one_step.here(work, config, dataset, core.make_mesh(jax.devices()[:1]))
    settings, on = works.settings_of(work, step.config), torch.device("cpu")
    apart = one_step.compared(step, settings, on)
    assert {*apart} == {"loss", "network", "average"} and max(apart.values()) < 1e-6
    optimizer = {**settings.optimizer, "weight_decay": 0.0}
    with pytest.raises(UserError, match="PyTorch's is not ours: .* network by "):
        one_step.compared(step, dataclasses.replace(settings, optimizer=optimizer), on)


def test_all_are_timed_in_turn():
    measured = peers.measure("digits", given("--compile=no", "--steps=1", "--nocheck"))
    assert {*measured["seconds"]} == {*peers.PEERS}
    assert measured["one_step"] is measured["one_step_batch"] is None
    assert measured["torch_device"] == measured["device"]["kind"] == "cpu"
    for peer in ("workers", "tuned"):
        (ours,), (theirs,) = (measured["seconds"][name] for name in ("ours", peer))
        assert measured["ratios"][peer] == [ours / theirs]
    measured["work"] = "wrn64"  # README shows no digits
    for table in (tables.peers, tables.peers_all):
        lines = table({"cpu_wrn64": [measured]}).splitlines()
        assert len(lines) == 5 and tables.WORKS["wrn64"] in lines[-1]
        assert "| eager, nothing else tried |" in lines[-1]
        assert table({}) == tables.NOT_MEASURED


def test_tuned_has_the_quickest_form_that_does_the_same(monkeypatch):
    tried = {"eager": (3.0, 1.0), "compiled": (2.0, 1.05), "wrong": (1.0, 1.5)}

    def once(trial, form, *args, **kwargs):
        if form not in tried:
            raise RuntimeError("CppCompileError: no compiler")
        return tried[form]

    monkeypatch.setattr(alone, "once", once)
    found = peers.quickest([*tried, "CUDA graphs"], 1, bfloat16=False)
    assert found["chosen"] == "compiled" and found["tried"]["eager"] == 3.0
    assert found["tried"]["wrong"] == "failed: loss 1.5, and not 1.0"
    assert found["tried"]["CUDA graphs"] == "failed: CppCompileError: no compiler"
    assert peers.quickest([]) == {"chosen": "eager", "tried": {}}


def test_committed_steps_are_of_todays_configs():
    for (one,) in read("peers").values():
        config = works.configured(one["work"])
        config.model.dtype = one["config"]["model"]["dtype"]
        assert (config.model.dtype == "bfloat16") == (one["precision"] == "bfloat16")
        assert_of_today(config, one["config"])
        settings = works.settings_of(works.WORKS[one["work"]], config)
        assert settings.views_per_step == one["views"]


def test_a_gpu_that_one_library_alone_has_is_told():
    works.check_device(False)
    with pytest.raises(UserError, match="CpuDevice.* torch.cuda.is_available.* True"):
        works.check_device(True)


def test_flags_that_name_what_there_is_not():
    with pytest.raises(UserError, match="--works names wrn65; there are: wrn64, "):
        peers.run(given("--works=wrn65"))
    assert {*tables.WORKS} == {*works.WORKS}


@pytest.mark.parametrize("C", [1, 3])
def test_randaugments_operations_are_pillows(C):
    """In the batch as by Pillow, but for a level of rounding here and there."""
    images_NHWC = pillow_views.smooth_noise(4, 16, 16, C)
    x_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float()
    for name, bounds in batched.OPERATIONS.items():
        if name == "identity" or (C == 1 and name == "color"):
            continue
        magnitude = 0.0 if bounds is None else bounds[0] + 5 * bounds[1]
        magnitude_N = torch.full((4,), magnitude)
        if name in batched.BY_LEVEL:
            out = batched.BY_LEVEL[name](x_NCHW, magnitude_N)
        else:
            operation_N = torch.full((4,), list(batched.OPERATIONS).index(name))
            out = batched.warped(x_NCHW, operation_N, magnitude_N)
        out_NHWC = out.permute(0, 2, 3, 1).numpy()
        for image_HWC, ours_HWC in zip(images_NHWC, out_NHWC, strict=True):
            image = pillow.opened(image_HWC)
            color = (127,) * 3 if C == 3 else 127
            expected = pillow_views.operation(name, image, magnitude, color)
            off_HWC = np.abs(np.asarray(expected).reshape(image_HWC.shape) - ours_HWC)
            assert (off_HWC > 1).mean() < 0.02, name


def test_both_augmentations_give_views_of_the_same_kind():
    images_NHWC = pillow_views.smooth_noise(32, 16, 16, 3)
    random.seed(0)
    torch.manual_seed(0)
    x_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    views = batched.Views(WEAK_STRONG)
    found = [views.weak(x_NCHW), views.strong(x_NCHW)]
    rows = pillow.Augmented(images_NHWC, np.arange(32), WEAK_STRONG)
    by_pillow, labels_B = pillow.collated(
        [rows[kind, i] for kind in ("labeled", "unlabeled") for i in range(32)]
    )
    assert labels_B.tolist() == [*range(32)]
    crops = pillow.Augmented(images_NHWC, np.arange(32), CROPS)
    found += [batched.Views(CROPS).crops(x_NCHW, which) for which in (0, 1)]
    by_pillow = (
        by_pillow[1:] + pillow.collated([crops["crops", i] for i in range(32)])[0]
    )
    for ours, theirs in zip(found, by_pillow, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert 0 <= ours.min() and ours.max() <= 255
        assert abs(ours.mean() - theirs.mean()) < 20
