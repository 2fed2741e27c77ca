"""The figures of an experiment, one module each."""
