"""Many recordings at a time: jobs, the workers that run them, and what is left to do."""
