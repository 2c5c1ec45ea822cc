"""What kdlight costs beside the same work without it: ratios, measured, never asserted."""
