"""Run the node for many frames while faults are injected."""
