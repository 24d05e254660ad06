"""Environment, names, processes and launching."""
