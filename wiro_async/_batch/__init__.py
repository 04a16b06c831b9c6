"""Batches: the source of jobs, their outcomes, and when to stop."""
