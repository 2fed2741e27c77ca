"""Units of emulated work, and how they are made to last a given time."""
