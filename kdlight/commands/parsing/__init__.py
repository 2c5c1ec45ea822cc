"""From words on the command line to settings, or to one sentence about what is wrong."""
