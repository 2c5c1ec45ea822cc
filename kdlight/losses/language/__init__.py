"""Losses of language models: what is compared, token by token, of teacher and student."""
