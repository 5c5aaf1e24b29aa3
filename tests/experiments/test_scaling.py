"""What docs/scaling.md counts, and the arithmetic on it."""

import math

import pytest

import tiny
from experiments import scaling
from experiments.speed import scaling_tables as tables
from ssl_jax import models


def test_all_reduces_are_read_and_nothing_else_may_be_exchanged():
    text = """
  %a = (f32[16]{0}, f32[16]{0}) all-reduce(%x, %y), to_apply=%add
  ROOT %b.1 = (f32[3,3,3,16]{3,2,1,0}, /*index=1*/f32[]) all-reduce-start(%z, %c)
  %d = f32[] all-reduce-done(%b.1)
  %e = f32[32]{0} all-reduce(%f), channel_id=1
  %g = bf16[64]{0} fusion(%all-reduce), calls=%h
"""
    assert scaling.all_reduces(text) == {"128": 2, "1732": 1}
    with pytest.raises(ValueError, match="no all-reduce: .*all-gather"):
        scaling.all_reduces("  %a = f32[8]{0} all-gather(%x), dimensions={0}")


def test_what_devices_exchange_hangs_neither_on_images_nor_on_their_size():
    config = tiny.config("supervised.Supervised")
    config.model.filters = (4,)
    sizes = dict(image=(8, 8, 1), classes=10, images=100)
    few, more = (
        scaling.all_reduces(scaling.compiled(config, sizes, devices=4, **given))
        for given in (dict(side=8), dict(side=12, rows=2))
    )
    assert few == more
    # Two BatchNorms of 4 channels, forward and backward; and parameters, their
    # gradients and some metrics.
    count, _, small, _ = tables.split(few)
    assert count == 0 and small <= 2 * 2 + 2
    parameters = 9 * (1 * 4 + 4 * 4) + 2 * (4 + 4) + 4 * 10 + 10
    assert 4 * parameters <= sum(int(size) * n for size, n in few.items())


def test_work_and_memory_by_hand():
    """Of a stem and one block of 16 filters at 8 px: three 3x3 convolutions."""
    model = models.build(
        *("wide_resnet",), num_classes=2, dtype="bfloat16", widen=1, blocks=1, scales=1
    )
    counted = scaling.encoder(model, (8, 8, 3))
    assert counted == {
        "multiply_adds": 64 * 9 * (3 * 16 + 2 * 16 * 16),
        "kept_bytes": 2 * 64 * (3 + 5 * 16),
        "remat_bytes": 2 * 64 * 16,
    }


def test_seconds_by_hand():
    assert tables.latency(8) == pytest.approx((4.4 + 14 * 0.52) * 1e-6)
    assert tables.latency(64) == pytest.approx((4.4 + 14 * 0.936 + 6 * 5) * 1e-6)
    seconds = tables.exchange(400_000_000, 16) - tables.latency(16)
    assert seconds == pytest.approx(2 * 15 / 16 * 1e-3)
    assert tables.split({"128": 3, "5000000": 2}) == (2, 10_000_000, 3, 384)


def test_what_goes_in_is_of_the_results_and_the_formulas():
    image = {"multiply_adds": 4_087_136_256, "kept_bytes": 43_552_768}
    lines = tables.inputs({"fixmatch_imagenet": [{"per_image": image}]}).splitlines()
    assert [line.split(" | ")[1].removesuffix(" |") for line in lines[2:]] == [
        "4.09 billion",
        "43.6 MB",
        "170 TFLOP/s, 17% of 989",
        "12 on 8, 48 on 64, 88 on 1,024",
    ]


def test_work_is_of_views_and_of_what_a_target_sees(monkeypatch):
    monkeypatch.setattr(scaling, "compiled", lambda *args, **kwargs: "")
    monkeypatch.setattr(scaling, "encoder", lambda *_: {"multiply_adds": 7})
    sizes = dict(image=(8, 8, 1), classes=10, images=100)
    for name, passes, images in (
        ("supervised.Supervised", 3, (8, 0)),
        ("byol.BYOL", 3 * 2 + 2, (16, 16)),  # and its target's two, forward
    ):
        config = tiny.config(name)
        config.train.update(batch_size=8, unlabeled_ratio=0)
        counted = scaling.measure(config, sizes)
        seen = counted["images_with_gradient"], counted["images_without"]
        assert seen == images
        assert counted["flops"] == 2 * 7 * 8 * passes


def test_tables_by_hand():
    one = {
        "config": {"train": {"batch_size": 64}},
        "images_with_gradient": 640,
        "images_without": 160,
        "per_image": {"kept_bytes": 2_000_000, "remat_bytes": 500_000},
        "state_bytes": {"params": 10**9, "opt_state": 2 * 10**9, "extra": 0},
        "flops": 8 * 0.01 * tables.REACHED,  # 10 ms of 8 GPUs
        "all_reduces": {"100": 10, "450000000": 1},
    }
    *_, memory = tables.memory({"fixmatch_cifar10": [one]}).splitlines()
    assert memory.split(" | ")[1:3] == ["1.000 + 2.000 + 0.000", "0.16 / 0.04"]
    *_, on_8, on_64, on_1024 = tables.time({"fixmatch_cifar10": [one]}).splitlines()
    cells = on_8.strip("| ").split(" | ")
    latency = tables.latency(8)
    gradients, moments = latency + 2 * 7 / 8 * 1e-3, 10 * latency
    assert cells[2:5] == ["10.00", f"{1e3 * gradients:.2f}", f"{1e3 * moments:.2f}"]
    assert cells[5] == f"{0.01 / (0.01 + moments):.0%}"  # gradients hide
    backward = 0.01 * 2 * 640 / (3 * 640 + 160)
    assert int(cells[6]) == math.ceil(64 * gradients / backward)
    assert int(cells[7]) == math.ceil(64 * moments / 0.001)
    assert "does not divide" not in on_64 and "does not divide" in on_1024
