"""Files: local ones on their way in, outputs on their way out."""
