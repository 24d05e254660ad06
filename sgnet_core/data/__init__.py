"""Data: samples, images, data sets, procedural rooms, augmentation and loading."""
