"""Data of speech, one data set per file."""
