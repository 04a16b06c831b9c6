"""HTTP: connections, proxies, signing, retries. Only it uses httpx, except the streams of ``_files``."""
