"""The two loops: `Workers`, as the public codebases train, and `Tuned`, as fast as
PyTorch was found to be. Both draw, augment and train, `run(steps)` of them at a time.
"""

import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.speed.torch_peers import weights
from experiments.speed.torch_peers.algorithms import METHODS, Settings, Training
from experiments.speed.torch_peers.batched import Views
from experiments.speed.torch_peers.pillow import Augmented, Steps, collated

FORMS = {  # (mode of torch.compile or "", whether augmentation is compiled as well)
    "eager": ("", False),
    "compiled": ("default", False),
    "compiled with the views": ("default", True),
    "CUDA graphs": ("reduce-overhead", False),
    "CUDA graphs with the views": ("reduce-overhead", True),
}


def forms(device: torch.device) -> list[str]:
    """Those worth trying: a CPU's augmentation takes the rows that ask for it, whose
    number no compiled program knows."""
    return list(FORMS)[: None if device.type == "cuda" else 2]


def prepare(threads: int, *, tf32: bool) -> None:
    """This process' settings: threads of the CPU, precision of float32 products on a
    GPU, the fastest convolutions there, and numbers near 0 taken as 0."""
    torch.set_num_threads(threads or os.cpu_count())
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def prepared(loop: type, threads: int, tf32: bool, *args, **kwargs):
    """A loop, in a process of its own, which is told to `prepare` first."""
    prepare(threads, tf32=tf32)
    return loop(*args, **kwargs)


def drawn(settings: Settings, rows: int) -> dict[str, tuple[int, int]]:
    """Kind of image -> (rows that there are of it, images of it in a step)."""
    if settings.method == "byol.BYOL":
        return {"crops": (rows, settings.batch_size)}
    images = {"labeled": (rows, settings.batch_size)}
    if settings.unlabeled_ratio:
        count = settings.batch_size * settings.unlabeled_ratio
        images["unlabeled"] = (rows, count)
    return images


class Workers:
    """Pillow in the workers of a DataLoader, channels_last, eager; the optimizer's
    default form, averages tensor by tensor."""

    def __init__(
        self,
        settings: Settings,
        images_NHWC: np.ndarray,
        labels_N: np.ndarray,
        device: torch.device,
        *,
        workers: int,
        bfloat16: bool,
    ):
        self.training = METHODS[settings.method](
            settings, device, tuned=False, bfloat16=bfloat16
        )
        self.device = _name(device)
        self.sampler = Steps(drawn(settings, len(images_NHWC)))
        self.loader = DataLoader(
            Augmented(images_NHWC, labels_N, settings.augment),
            batch_sampler=self.sampler,
            collate_fn=collated,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
            # A fork would copy the locks of this process' threads.
            multiprocessing_context="spawn",
        )

    def run(self, steps: int) -> float:
        """Seconds a step. An epoch of one step more, which is not timed: in it workers
        fill their queues, and at its end nothing is left for them to do in another's
        turn."""
        self.sampler.steps = steps + 1
        batches = iter(self.loader)
        self._step(next(batches))
        return _timed(lambda: [self._step(batch) for batch in batches], steps)

    def _step(self, batch):
        views, labels_B = batch
        moved = [
            view.to(
                self.training.device,
                non_blocking=True,
                memory_format=torch.channels_last,
            )
            for view in views
        ]
        labels_B = labels_B.to(self.training.device, non_blocking=True)
        return self.training.step(moved, labels_B)


class Tuned:
    """Images and augmentation on the device, the fused optimizer, averages by one call,
    channels_last, and one of the FORMS of torch.compile: the quickest there.

    Tried on a CPU with PyTorch 2.13, in CPU seconds of one thread: without
    channels_last WRN-28-2 takes 1.16 times as long, MobileNet 1.6, MNIST's convnet 1.3.
    Compiled, they take 0.96, 0.87 and 1.0 times as long.
    Padding on both sides, which is not our network, would save 1 to 3%.
    """

    def __init__(
        self,
        settings: Settings,
        images_NHWC: np.ndarray,
        labels_N: np.ndarray,
        device: torch.device,
        *,
        form: str,
        bfloat16: bool,
    ):
        mode, of_views = FORMS[form]
        compile = (
            partial(torch.compile, mode=mode) if mode else lambda function: function
        )
        self.training = METHODS[settings.method](
            settings, device, tuned=True, bfloat16=bfloat16, compile=compile
        )
        self.device = _name(device)
        images = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()
        self.images_NCHW = images.to(device)
        self.labels_N = _labels(labels_N).to(device)
        self.drawn = drawn(settings, len(images))
        self.views = Views(settings.augment)
        self._batch = compile(self.batch) if of_views else self.batch

    def run(self, steps: int) -> float:
        """Seconds a step."""
        losses = []
        seconds = _timed(lambda: losses.extend(self._steps(steps)), steps)
        self.loss = float(losses[-1])
        return seconds

    def _steps(self, steps):
        return [self._step() for _ in range(steps)]

    def batch(self) -> tuple[list[Tensor], Tensor]:
        """(views, labels_B) of a step."""
        labels_B, views = None, []
        for kind, (rows, count) in self.drawn.items():
            index_B = torch.randint(rows, (count,), device=self.images_NCHW.device)
            images = self.images_NCHW[index_B]
            if kind == "unlabeled":
                views += [self.views.weak(images), self.views.strong(images)]
                continue
            labels_B = self.labels_N[index_B]
            if kind == "labeled":
                views += [self.views.weak(images)]
            else:
                views += [self.views.crops(images, which) for which in (0, 1)]
        form = torch.channels_last
        return [view.contiguous(memory_format=form) for view in views], labels_B

    def _step(self):
        with torch.no_grad():
            views, labels_B = self._batch()
        return self.training.step(views, labels_B)


def trial(form: str, threads: int, tf32: bool, *args, **kwargs) -> tuple[float, float]:
    """(seconds of the quickest of three steps, loss of the last) of a Tuned loop. For a
    process of its own, which a faulty compiled program may end."""
    prepare(threads, tf32=tf32)
    torch.manual_seed(0)
    loop = Tuned(*args, form=form, **kwargs)
    seconds = min(loop.run(1) for _ in range(3))
    return seconds, loop.loss


def one_step(
    settings: Settings,
    params: dict,
    views_BHWC: list[np.ndarray],
    labels_B: np.ndarray,
    device: torch.device,
) -> tuple[float, Training]:
    """The loss and the training after one step in float64 on these views, normalised,
    from these parameters (of ours, nested); as the tuned loop does it, uncompiled."""
    training = METHODS[settings.method](settings, device, tuned=True)
    for module in (training.network, training.average):
        module.double()
        weights.load(module, params)
    views = [
        torch.tensor(view, dtype=torch.float64).permute(0, 3, 1, 2).to(device)
        for view in views_BHWC
    ]
    loss = training.step(views, _labels(labels_B).to(device))
    return float(loss), training


def _name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _labels(labels_N):
    return torch.from_numpy(np.asarray(labels_N, np.int64))


def _timed(run: Callable, steps: int) -> float:
    def wait():
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    wait()
    began = time.perf_counter()
    run()
    wait()
    return (time.perf_counter() - began) / steps
