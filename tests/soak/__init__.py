"""Long runs: what a stream does after ten million steps, and a crowd of streams that come and go."""
