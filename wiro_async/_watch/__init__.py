"""How the client learns that a task has ended: polling, WebSockets, callbacks."""
