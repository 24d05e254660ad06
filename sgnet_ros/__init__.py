"""ROS 2 node for RGB-D semantic segmentation with the models of `sgnet_core`."""
