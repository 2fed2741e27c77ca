"""What an experiment says: its models, how files are read and checked, and how a sweep becomes points."""
