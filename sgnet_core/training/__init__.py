"""Training; `sgnet_core.training.run` is the run, the other modules are its parts."""
