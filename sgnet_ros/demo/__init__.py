"""Camera, node and observer as three processes."""
