"""The programs of a coupled run: simulation and training, as classes and as what a rank's process runs."""
