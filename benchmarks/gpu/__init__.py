"""`python -m benchmarks.gpu`: one command that proves on a GPU, in ten minutes, what tests can only argue for."""
