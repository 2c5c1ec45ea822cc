"""Runs the metrics of images: of what is generated, of classifiers, of encoders."""
