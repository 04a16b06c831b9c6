"""Ways to learn how a task is getting on: one module each, one interface."""
