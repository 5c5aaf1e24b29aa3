"""(algorithm, state, batches) -> numbers."""
