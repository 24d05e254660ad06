"""ROS 2 node for RGB-D semantic segmentation; asks `sgnet_core` one question per frame."""
