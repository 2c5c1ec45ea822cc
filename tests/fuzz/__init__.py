"""A fuzz of the command line: `python -m tests.fuzz --seed 0 --cases 400`.

Every verb, with every key of four configurations, every option, and every kind of file it reads,
spoilt in every way that :mod:`tests.fuzz.damage` knows.
"""

import os

# As in a command whose output is no terminal; read when the libraries are imported.
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
for _name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
    os.environ[_name] = "error"
