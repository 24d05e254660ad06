"""Judge the running node by recordings."""
