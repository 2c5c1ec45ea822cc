"""A fuzz of the command line: `python -m tests.fuzz --seed 0 --cases 400`.

Every verb, with every key of three configurations, every option, and every kind of file it reads,
spoilt in every way that :mod:`tests.fuzz.damage` knows.
"""
