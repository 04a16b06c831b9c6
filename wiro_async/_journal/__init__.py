"""The journal: what must survive the process, durable before it matters."""
