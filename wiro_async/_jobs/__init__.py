"""Jobs: the way from inputs to a paid result, for single calls and batches alike."""
