"""A server that answers every request with the same Detail reply: far faster than any client here.

Run: ``python benchmarks/server.py``; prints its port.
"""

from __future__ import annotations

import asyncio
import json
import socket

TASK = {
    "id": "2221", "uuid": "15bce51f-442f-4f44-a71d-13c6374a62bd", "socketaccesstoken": "x" * 30,
    "parameters": {"inputImageFirstUrl": "https://example.org/1.jpg", "prompt": "waves roll in at dusk" * 5},
    "debugoutput": "", "debugerror": "", "starttime": "1734513809", "endtime": "0",
    "elapsedseconds": "6.0000",
    "status": "task_start", "cps": "0.000585000000", "totalcost": "0.000000000000", "projectid": "699",
    "modelid": "598", "createtime": "1734513807", "canceltime": "0", "assigntime": "1734513807",
    "accepttime": "1734513807", "preprocessstarttime": "1734513807", "preprocessendtime": "1734513807",
    "postprocessstarttime": "0", "postprocessendtime": "0", "pexit": "", "categories": "[\"tool\"]",
    "outputs": [], "size": "0",
}  # fmt: skip
BODY = json.dumps({"total": "1", "errors": [], "tasklist": [TASK], "result": True}).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Server(asyncio.Protocol):
    """Counts the ends of requests; their bodies are JSON without a line break."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self.transport: asyncio.Transport = transport
        self.received: bytes = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            begin = head.find(b"content-length:")
            length = int(head[begin + 15 :].split(b"\r\n", 1)[0]) if begin >= 0 else 0
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.transport.write(REPLY)


async def main() -> None:
    """Serve until killed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(Server, sock=listener, backlog=4096)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
