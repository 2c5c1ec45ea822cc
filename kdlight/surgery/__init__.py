"""Cutting networks smaller: which of their parts count, and the network without the others."""
