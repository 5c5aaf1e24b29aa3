"""Functions from what was measured to a matplotlib Figure."""
