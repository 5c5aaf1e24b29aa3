"""Four virtual CPU devices, and rank promotion that raises, before JAX starts."""

import os

# Compiling takes most of the suite's time, and its programs run for seconds.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        QUICK_COMPILATION,
        "--xla_force_host_platform_device_count=4",
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"
# A [B] loss times a [B, 1] mask averages instead of masking; here it is an error.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
