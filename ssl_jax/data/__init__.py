"""Images and labels in memory: sources (`load`), splits (`split`) and feeds."""
