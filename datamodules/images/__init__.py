"""Data of images and points, one data set per file."""
