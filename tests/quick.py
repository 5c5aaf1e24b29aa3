"""What makes XLA compile quickly, in the tests and in the processes they start."""

from importlib.metadata import version

# Compiling takes most of the suite's time, and its programs run for seconds.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
if version("jaxlib").startswith("0.10."):  # a later XLA stops at a flag it has not
    # A third of the compile time: the older way to generate a fusion's code.
    QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
    # A quarter of the rest: one piece of a program, not 32 for as many cores.
    QUICK_COMPILATION += " --xla_cpu_parallel_codegen_split_count=1"
