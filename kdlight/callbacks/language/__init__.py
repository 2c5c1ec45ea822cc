"""Runs the metrics of text: of next tokens, of token generators, of what reads texts."""
