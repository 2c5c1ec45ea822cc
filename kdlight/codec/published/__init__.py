"""Networks of published codecs that none of kdlight's own has."""
