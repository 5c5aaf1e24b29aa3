"""Everything that is on disk, and its only writer."""
