"""Parts of a training run; `sgnet_core.training.run` assembles them."""
