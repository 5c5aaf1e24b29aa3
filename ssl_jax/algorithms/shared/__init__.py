"""What three algorithms or more share; one of fewer stands in its own file."""
