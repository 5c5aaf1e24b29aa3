"""Learning from few labels in JAX."""
