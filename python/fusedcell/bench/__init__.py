"""What ``fusedcell bench`` runs: our layers beside NumPy and other libraries, timed in turns."""
