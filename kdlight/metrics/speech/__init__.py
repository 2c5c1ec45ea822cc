"""Metrics of speech: figures of a pair of utterances, statistics of codes, their summary."""
