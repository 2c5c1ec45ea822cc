"""Methods of speech: codecs, and what guides them."""
