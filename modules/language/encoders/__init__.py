"""Models that read a text: classifiers, layers of them, rankings."""
