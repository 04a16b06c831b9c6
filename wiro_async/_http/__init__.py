"""HTTP: connections, signing, retries. The only room that knows httpx."""
