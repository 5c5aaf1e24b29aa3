"""From a config to trained phases."""
