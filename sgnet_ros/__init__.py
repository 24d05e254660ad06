"""ROS 2 node for RGB-D semantic segmentation: knows ROS, asks `sgnet_core` one question per frame."""
