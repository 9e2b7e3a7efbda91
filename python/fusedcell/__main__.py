"""Command line: ``fusedcell info``, ``fusedcell bench``."""
