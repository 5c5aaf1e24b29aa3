"""A phase's folder, <workdir>/<phase>, and every name in it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.workdir.files import replacing, write_json

PSEUDO_LABELS = "pseudo_labels.npz"


class PhaseFolder(NamedTuple):
    """Of this run, or of another."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def profile(self) -> Path:
        """Traces of steps (train/profiling.py)."""
        return self.path / "profile"

    @property
    def marker(self) -> Path:
        """It is there when the phase is over."""
        return self.path / "done.json"

    @property
    def pseudo_labels(self) -> Path:
        """What the phase's teacher said (train/self_training.py)."""
        return self.path / PSEUDO_LABELS

    @property
    def said(self) -> Path:
        """What the phase says of held-out images (`write_said`)."""
        return self.path / "said.npz"

    @property
    def done(self) -> dict | None:
        """The phase's entry in result.json; None unless it is over."""
        return json.loads(self.marker.read_text()) if self.marker.exists() else None

    @property
    def trained(self) -> int:
        """Steps that it goes on from: of its newest checkpoint, or all when over."""
        if (done := self.done) is not None:
            return done.get("steps", 0)  # a probe has none
        saved = self.checkpoints.iterdir() if self.checkpoints.exists() else ()
        return max((int(p.name) for p in saved if p.name.isdigit()), default=0)

    def finish(self, entry: dict) -> dict:
        """Writes the entry: the phase is over. Returns it as JSON gives it back."""
        write_json(self.marker, entry)
        return self.done

    def copy(self, to: Path) -> None:
        """As the folder `to`, which is there whole or not at all."""
        beside = to.with_name(f"{to.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)  # of a call that was killed
        shutil.copytree(self.path, beside)
        beside.rename(to)

    def write_said(
        self,
        of_sets: Mapping[str, tuple[np.ndarray, np.ndarray]],
        rows: np.ndarray,
        images_NHWC: np.ndarray,
    ) -> None:
        """What the phase says at its end, for the page of a run (report/page), which so
        needs neither the data nor the network.

        Args:
          of_sets: (logits_MK, labels_M) of each image of "val" and "test", in order.
          rows, images_NHWC: test images to show, uint8, and which they are.
        """
        arrays = {"rows": rows, "images_NHWC": images_NHWC}
        for name, (logits_MK, labels_M) in of_sets.items():
            arrays |= {f"{name}_logits_MK": logits_MK, f"{name}_labels_M": labels_M}
        with replacing(self.said, "wb") as file:
            np.savez(file, **arrays)
