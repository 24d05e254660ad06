"""Work on many recordings: jobs, the workers that run them, and manifests of finished work."""
