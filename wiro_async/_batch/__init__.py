"""Batches: where jobs come from, what becomes of their outcomes, when to stop."""
