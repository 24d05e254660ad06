"""What a training run is made of, one concept per module; `sgnet_core.train` puts it together."""
