"""Methods of recognition, one file per method."""
