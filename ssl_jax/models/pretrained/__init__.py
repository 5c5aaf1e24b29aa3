"""Other people's weights, for `model.weights`.

files       what a file holds: a .safetensors, or of PyTorch
torch_file  the latter, without running what it says
layouts     whose names its tensors have, and how they become ours
fitting     those laid into a network, or what does not fit
"""

from ssl_jax.models.pretrained.files import File, Input, read
from ssl_jax.models.pretrained.fitting import Fitted, fitted

__all__ = ["File", "Fitted", "Input", "fitted", "read"]
