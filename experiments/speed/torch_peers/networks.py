"""The networks of ssl_jax/models in PyTorch.

Every module is called what Flax calls ours, so that `weights` goes by the names. They
compute the same numbers: a stride of 2 pads as "SAME" does where ours do (even sizes on
the right and at the bottom only), and epsilons are ours. What a training step does not
see differs: running variances are PyTorch's, which divide by n - 1, and their momentum
does not rise.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """3x3 or 1x1 without bias, padded as "SAME"."""

    def __init__(self, inputs: int, filters: int, kernel: int, stride: int = 1, **more):
        # The same on both sides, which is right where the stride is 1 or the size odd.
        super().__init__(
            inputs, filters, kernel, stride, kernel // 2, bias=False, **more
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if kernel == 1 or stride == 1 or x_BCHW.shape[-1] % 2:
            return super().forward(x_BCHW)
        padded = F.pad(x_BCHW, (0, 1, 0, 1))
        return F.conv2d(padded, self.weight, None, self.stride, 0, 1, self.groups)


def depthwise(filters: int, stride: int) -> Conv:
    return Conv(filters, filters, 3, stride, groups=filters)


class WideResNetBlock(nn.Module):
    def __init__(self, inputs: int, filters: int, stride: int, activate_first: bool):
        super().__init__()
        self.activate_first = activate_first
        self.BatchNorm_0 = _norm(inputs, 1e-3)
        self.Conv_0 = Conv(inputs, filters, 3, stride)
        self.BatchNorm_1 = _norm(filters, 1e-3)
        self.Conv_1 = Conv(filters, filters, 3)
        if inputs != filters:
            self.shortcut = Conv(inputs, filters, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = _leaky(self.BatchNorm_0(x))
        shortcut = y if self.activate_first else x
        y = self.Conv_1(_leaky(self.BatchNorm_1(self.Conv_0(y))))
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut(shortcut)
        return shortcut + y


class WideResNet(nn.Module):
    """models/wide_resnet.py."""

    def __init__(self, channels: int, *, widen: int, blocks: int, scales: int, **_):
        super().__init__()
        self.Conv_0 = Conv(channels, 16, 3)
        inputs, self.body = 16, []
        for scale in range(scales):
            for block in range(blocks):
                filters = 16 * widen * 2**scale
                stride = 2 if scale and not block else 1
                first = not scale and not block
                name = f"Block_{len(self.body)}"
                module = WideResNetBlock(inputs, filters, stride, first)
                self.add_module(name, module)
                self.body.append(name)
                inputs = filters
        self.BatchNorm_0 = _norm(inputs, 1e-3)
        self.features = inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.Conv_0(x_BCHW)
        for name in self.body:
            y = getattr(self, name)(y)
        return _leaky(self.BatchNorm_0(y)).mean((2, 3))


class MobileNet(nn.Module):
    """models/mobilenet.py."""

    BLOCKS = (
        *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
        *[(512, 1)] * 5,
        *((1024, 2), (1024, 1)),
    )

    def __init__(self, channels: int, *, widen: float, **_):
        super().__init__()
        inputs = int(32 * widen)
        self.Conv_0, self.BatchNorm_0 = (
            Conv(channels, inputs, 3, 2),
            _norm(inputs, 1e-3),
        )
        for i, (filters, stride) in enumerate(self.BLOCKS):
            filters = int(filters * widen)
            self.add_module(f"Depthwise_{i}", depthwise(inputs, stride))
            self.add_module(f"BatchNorm_{2 * i + 1}", _norm(inputs, 1e-3))
            self.add_module(f"Conv_{i + 1}", Conv(inputs, filters, 1))
            self.add_module(f"BatchNorm_{2 * i + 2}", _norm(filters, 1e-3))
            inputs = filters
        self.features = inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        def of(name, i):
            return getattr(self, f"{name}_{i}")

        y = _relu6(self.BatchNorm_0(self.Conv_0(x_BCHW)))
        for i in range(len(self.BLOCKS)):
            y = _relu6(of("BatchNorm", 2 * i + 1)(of("Depthwise", i)(y)))
            y = _relu6(of("BatchNorm", 2 * i + 2)(of("Conv", i + 1)(y)))
        return y.mean((2, 3))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, filters: int, stride: int):
        super().__init__()
        self.Conv_0 = _padded(inputs, filters, 3, stride)
        self.BatchNorm_0 = _norm(filters, 1e-5)
        self.Conv_1 = _padded(filters, filters, 3)
        self.BatchNorm_1 = _norm(filters, 1e-5)
        if stride != 1 or inputs != filters:
            self.shortcut = _padded(inputs, filters, 1, stride)
            self.shortcut_norm = _norm(filters, 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        y = _relu(self.BatchNorm_0(self.Conv_0(x)))
        y = self.BatchNorm_1(self.Conv_1(y))
        if hasattr(self, "shortcut"):
            x = self.shortcut_norm(self.shortcut(x))
        return _relu(y + x)


class ResNet18(nn.Module):
    """models/resnet.py at depth 18."""

    STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False), "stl10": (3, 1, True)}

    def __init__(self, channels: int, *, depth: int, stem: str, width: int, **_):
        if depth != 18:
            raise ValueError(f"ResNet-{depth} is not written here; use 18.")
        super().__init__()
        kernel, stride, self.pool = self.STEMS[stem]
        self.Conv_0 = _padded(channels, width, kernel, stride)
        self.BatchNorm_0 = _norm(width, 1e-5)
        inputs = width
        for i in range(8):
            filters, stride = width * 2 ** (i // 2), 2 if i in (2, 4, 6) else 1
            self.add_module(f"BasicBlock_{i}", BasicBlock(inputs, filters, stride))
            inputs = filters
        self.features = inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = _relu(self.BatchNorm_0(self.Conv_0(x_BCHW)))
        if self.pool:
            y = F.max_pool2d(y, 3, 2, 1)
        for i in range(8):
            y = getattr(self, f"BasicBlock_{i}")(y)
        return y.mean((2, 3))


class ConvNet(nn.Module):
    """models/convnet.py."""

    def __init__(self, channels: int, *, filters: tuple, stem_stride: int, **_):
        super().__init__()
        inputs, self.layers = channels, 2 * len(filters)
        for i in range(self.layers):
            stride = 1 if i % 2 else 2 if i else stem_stride
            self.add_module(f"Conv_{i}", Conv(inputs, filters[i // 2], 3, stride))
            inputs = filters[i // 2]
            self.add_module(f"BatchNorm_{i}", _norm(inputs, 1e-5))
        self.features = inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = x_BCHW
        for i in range(self.layers):
            norm = getattr(self, f"BatchNorm_{i}")
            y = _relu(norm(getattr(self, f"Conv_{i}")(y)))
        return y.mean((2, 3))


ENCODERS = {  # by ours
    "wide_resnet": WideResNet,
    "mobilenet": MobileNet,
    "resnet": ResNet18,
    "convnet": ConvNet,
}


def encoder(model: dict, channels: int) -> nn.Module:
    """The encoder of the config's section `model`, for images of so many channels."""
    return ENCODERS[model["name"]](channels, **model)


class Classifier(nn.Module):
    """A linear head on an encoder, both as in ssl_jax/models; the head is float32."""

    def __init__(self, encoder: nn.Module, num_classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return unrounded(self.head, self.encoder(x_BCHW))


class MLP(nn.Module):
    """Projector and predictor, as in algorithms/shared/joint_embedding.py."""

    def __init__(self, inputs: int, hidden: int, out: int, bias: bool):
        super().__init__()
        self.Dense_0 = nn.Linear(inputs, hidden)
        self.BatchNorm_0 = nn.BatchNorm1d(hidden)
        self.Dense_1 = nn.Linear(hidden, out, bias)

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.Dense_1(_relu(self.BatchNorm_0(self.Dense_0(x_BD))))


class Projected(nn.Module):
    """BYOL's target: an encoder and its projector."""

    def __init__(self, encoder: nn.Module, hidden: int, projection: int, bias: bool):
        super().__init__()
        self.encoder = encoder
        self.projector = MLP(encoder.features, hidden, projection, bias)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(features_BD, projection_BP)."""
        y_BD = self.encoder(x_BCHW)
        return y_BD, unrounded(self.projector, y_BD)


class Online(Projected):
    """BYOL's network: the same with a predictor and a linear probe."""

    def __init__(self, encoder, hidden, projection, bias, num_classes: int):
        super().__init__(encoder, hidden, projection, bias)
        self.predictor = MLP(projection, hidden, projection, bias)
        self.head = nn.Linear(encoder.features, num_classes)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(features_BD, prediction_BP)."""
        y_BD, z_BP = super().forward(x_BCHW)
        return y_BD, unrounded(self.predictor, z_BP)


def unrounded(module: nn.Module, x: Tensor) -> Tensor:
    """Heads compute in their parameters' float32 whatever the encoder does, as ours."""
    with torch.autocast(x.device.type, enabled=False):
        return module(x.to(next(module.parameters()).dtype))


def _norm(channels: int, epsilon: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, epsilon)


def _padded(inputs: int, filters: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Padded on both sides, as PyTorch's ResNet and ours are."""
    return nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=False)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1, inplace=True)


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)
