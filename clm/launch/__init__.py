"""This machine and this launch: hardware, processes, signals, the lock, and what a machine's faults become."""
