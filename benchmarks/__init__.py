"""What wiro_async costs, against what its users would otherwise write or install. Run: ``make bench``."""
