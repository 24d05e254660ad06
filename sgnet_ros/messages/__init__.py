"""ROS messages as NumPy arrays, and back."""
