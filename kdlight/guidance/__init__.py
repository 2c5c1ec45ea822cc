"""Guidance: what teachers say, laid on a codec's frames, and how its levels are pulled to it."""
