"""Drafts of a small model, verified by a large one so that its law is kept exactly."""
