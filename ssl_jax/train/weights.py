"""A file of somebody's weights in place of a fresh network (`model.weights`)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import logging

from ssl_jax.core import PyTree
from ssl_jax.errors import UserError
from ssl_jax.models import pretrained
from ssl_jax.train.parts import Model, Run, Trains
from ssl_jax.workdir import logs
from ssl_jax.workdir.files import expanded

# mean and std in grey levels, as most files have them: torchvision's, DINO's and many
# of timm's; timm's ViTs by "augreg"
NORMALIZED = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "half": ((127.5,), (127.5,)),
}
AS_CONFIGURED = "as_configured"


class Input(NamedTuple):
    """What a network sees of grey levels 0 to 255: `shape` (H, W, C), and
    (x - mean) / std."""

    shape: tuple[int, int, int]
    mean_C: np.ndarray
    std_C: np.ndarray


def input_of(plain, shape: tuple[int, int, int]) -> Input:
    """Of a method's plain view of images of `shape`. Normalising is affine, so what
    becomes of 0 and 255 tells it."""
    black_HWC, white_HWC = (
        np.asarray(plain(jnp.full((1, *shape), level, jnp.uint8)))[0]
        for level in (0, 255)
    )
    std_C = 255 / (white_HWC - black_HWC)[0, 0].astype(np.float64)
    return Input(black_HWC.shape, -black_HWC[0, 0] * std_C, std_C)


def of_file(
    model: Model,
    network: PyTree,
    phase: str,
    views: Any,
    shape: tuple[int, int, int],
    *,
    says: bool = False,
) -> PyTree:
    """What the phase starts from, for `core.init_state`.

    Args:
      network: as of `pretrained.fitted`.
      views: of the phase, of images of `shape`; None: it has none.
      says: what was taken, and what not.

    Raises:
      UserError: the file cannot be read, does not fit, or was trained on images that
        were normalised otherwise.
    """
    file = pretrained.read(expanded(model.weights))
    if views is not None:
        _check_input(model, file.input, phase, input_of(views.plain, shape))
    fitted = pretrained.fitted(
        file.tensors,
        network,
        name=model.name,
        path=model.weights,
        partial=model.partial,
    )
    if says:
        logs.say(f"{phase} begins with model.weights={model.weights}: {fitted.holds}")
        warn_of(fitted)
        warn_of_size(model, file.input, shape)
    return fitted.parts


def warn_of(fitted: pretrained.Fitted) -> None:
    """Tells what of a file was not taken."""
    for line in fitted.misfits:
        logging.warning("model.weights: %s", line)


def warn_of_size(
    model: Model, its: pretrained.Input | None, shape: tuple[int, int, int]
) -> None:
    """Tells that images of `shape` are of another size than those of the file, if that
    is known."""
    if its is not None and its.shape[:2] != shape[:2]:
        size, here = (f"{height}x{width}" for height, width, _ in (its.shape, shape))
        logging.warning(
            "model.weights=%r was trained on images of %s pixels, and these have %s: "
            "data.image_size brings them to others.",
            *(model.weights, size, here),
        )


def warn_of_fresh(run: Run, section: Trains) -> None:
    """Tells that the phase counts on an encoder that somebody has trained, and begins
    with none."""
    rates = {"layer_decay": 1.0, "layers": "all"}
    rates |= run.config[section.name].get("optimizer", {})
    if section.method.embeds:
        encoder = "whose features it learns from"
    elif (rates["layer_decay"], rates["layers"]) != (1.0, "all"):
        encoder = "that its optimizer spares"
    else:
        return
    if section.start_from == "scratch" and not run.model.weights:
        logging.warning(
            "%s: nobody has trained the encoder %s: name a file of weights by "
            "model.weights, or a run by %s.start_from.",
            *(section.name, encoder, section.name),
        )


def normalization(
    model: Model, its: pretrained.Input | None
) -> tuple[Sequence[float], Sequence[float]] | None:
    """(mean, std) of images, grey levels, as they were for the file; None: as the phase
    has it.

    Args:
      its: what something beside the file says of that.

    Raises:
      UserError: neither that nor the configuration says so.
    """
    if its is not None:
        return its.mean, its.std
    if model.normalized == AS_CONFIGURED:
        return None
    if model.normalized:
        return NORMALIZED[model.normalized]
    raise UserError(
        f"model.weights={model.weights!r} does not say how its images were "
        "normalised: say it by model.normalized, 'imagenet' (torchvision's, DINO's "
        "and most of timm's), 'half' (timm's augreg: mean and std 127.5), or "
        f"'{AS_CONFIGURED}' (mean and std of a phase's augment)."
    )


def _check_input(model, its, phase, there):
    """Raises UserError unless images are normalised as they were for the file."""
    known = normalization(model, its)
    if known is None:
        return
    mean, std = known
    for C in {len(mean), len(std)} - {1, len(there.mean_C)}:
        raise UserError(
            f"model.weights={model.weights!r} was trained on images of {C} channels, "
            f"and those of {phase} have {len(there.mean_C)}: use a file for such "
            "images, or others."
        )
    if not (_same(mean, there.mean_C) and _same(std, there.std_C)):
        at = f"--config.{phase}.augment"
        raise UserError(
            f"model.weights={model.weights!r} was trained on images that were "
            f"normalised otherwise than by {phase}.augment: use "
            f"{at}.mean={_flag(mean)} {at}.std={_flag(std)}."
        )


def _same(values: Sequence[float], there_C: np.ndarray) -> bool:
    return np.allclose(
        np.broadcast_to(np.asarray(values), there_C.shape), there_C, 1e-3
    )


def _flag(values):
    numbers = ",".join(f"{value:.6g}" for value in values)
    return f"'({numbers},)'"
