"""Writes a small STL-10 in the form of its binary files."""

from pathlib import Path

import numpy as np

CLASS_NAMES = "airplane bird car cat deer dog horse monkey ship truck".split()


def write_stl10(
    folder: Path, num_train: int = 20, num_test: int = 10, num_unlabeled: int = 30
) -> dict[str, np.ndarray]:
    """Writes random images into `folder`; returns images_NHWC and labels from 0.

    Labels go round the classes. There are ten folds: fold f has the first half of the
    training images, or the second where f is odd.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    content = {}
    for split, number in (
        ("train", num_train),
        ("test", num_test),
        ("unlabeled", num_unlabeled),
    ):
        images_NHWC = rng.integers(0, 256, (number, 96, 96, 3), np.uint8)
        # The files have channel, column, row.
        (folder / f"{split}_X.bin").write_bytes(
            images_NHWC.transpose(0, 3, 2, 1).tobytes()
        )
        content[split] = images_NHWC
        if split != "unlabeled":
            labels_N = np.arange(number, dtype=np.uint8) % 10
            (folder / f"{split}_y.bin").write_bytes((labels_N + 1).tobytes())
            content[f"{split}_labels"] = labels_N
    (folder / "class_names.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    half = num_train // 2
    folds = [range(f % 2 * half, (f % 2 + 1) * half) for f in range(10)]
    (folder / "fold_indices.txt").write_text(
        "".join(" ".join(map(str, fold)) + " \n" for fold in folds)
    )
    return content
