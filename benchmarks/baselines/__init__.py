"""The contenders, one process each: ``python -m benchmarks.baselines.NAME '{"do": "calls", …}'``."""
