"""What a machine offers to an experiment, and how to get what is missing."""
