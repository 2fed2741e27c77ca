"""The nodes at hand, which ranks run where, and the command lines that start them."""
