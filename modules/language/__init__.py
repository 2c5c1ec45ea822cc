"""Methods of language: each file reads as its paper."""
