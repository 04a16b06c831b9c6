"""Jobs: from inputs to a paid result, for single calls and batches."""
