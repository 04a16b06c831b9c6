"""One remote task: what is known of it, and the handle that users hold."""
