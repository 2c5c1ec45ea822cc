"""Runs the metrics of speech: of codecs and their tokens, of synthesis, voices and syllables."""
