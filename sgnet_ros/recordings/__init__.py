"""Bags and folders as RGB-D frames, without ROS."""
