"""Demo: camera, node and observer as three processes."""
