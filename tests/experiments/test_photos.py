"""Folders that experiments make of a data set, and the tables of two phases."""

import numpy as np
from PIL import Image

from experiments.tables import auto_photos, two_phase_cifar10


def test_photos_are_of_many_sizes_and_kinds(tmp_path):
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (32, 32, 3), np.uint8)
    for i in range(60):
        auto_photos.save(image_HWC, tmp_path / "cat" / str(i), rng)
    found = []
    for path in (tmp_path / "cat").iterdir():
        with Image.open(path) as photo:
            found.append((photo.size, photo.format, photo.mode))
    sizes, formats, modes = map(set, zip(*found, strict=True))
    assert len(found) == 60 and len(sizes) > 40
    assert formats == {"JPEG", "PNG"} and modes == {"L", "RGB"}


def _result(seed, accuracy, first=0.5):
    phase = {"seconds": 50.0, "compile_seconds": 10.0, "steps": 100}
    return {
        "seed": seed,
        "test": {"accuracy": accuracy},
        "phases": {
            "supervised": phase | {"test": {"accuracy": first}},
            "semi_supervised": phase,
        },
    }


def test_tables_pair_the_seeds():
    ours = [_result(seed, 0.6 + seed / 100) for seed in range(3)]
    floor = [_result(seed, 0.5 + seed / 50) for seed in (2, 0, 1)]
    text = auto_photos.table({"auto": ours, "supervised": floor})
    assert "| `auto` | 61.00 ± 1.00 (3) |  | 2.0 |" in text
    assert "| `auto:supervised` | 52.00 ± 2.00 (3) | 9.00 ± 1.00 (3), p 0.004 |" in text
    text = two_phase_cifar10.table({"two_phase": ours, "baseline_64px": floor})
    assert "| two phases | 32 | 55.89 | 61.00 ± 1.00 (3) |  | 200 | 2 |" in text
    assert "| 64 |  | 52.00 ± 2.00 (3) |  | 200 | 2 |" in text
    text = two_phase_cifar10.table({"two_phase": ours, "supervised": floor})
    assert "| 9.00 ± 1.00 (3), p 0.004 | 200 |" in text
    rest = [_result(seed, 0.5 + seed / 50) for seed in range(3)]
    for result in rest:
        del result["phases"]["supervised"]  # it went on from that of `ours`
    text = two_phase_cifar10.table({"two_phase": ours, "supervised": rest})
    assert "| 9.00 ± 1.00 (3), p 0.004 | 200 | 2 |" in text
    far = [_result(seed, 0.1 + seed / 99) for seed in range(3)]
    for module, name in ((auto_photos, "auto"), (two_phase_cifar10, "two_phase")):
        assert ", p < 0.001 |" in module.table({name: ours, "supervised": far})
    for module in (auto_photos, two_phase_cifar10):
        assert module.table({}) == "Not measured yet."
    floor = two_phase_cifar10.configure("supervised", "64", 1)
    assert floor.name == "two_phase_cifar10_supervised_64px"
    assert floor.semi_supervised.start_from == (
        "runs/two_phase_cifar10/two_phase_64px-seed1/supervised"
    )
    assert auto_photos.configure("supervised", 1).name == "auto_supervised"
