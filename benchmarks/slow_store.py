"""A store as S3 speaks, on this machine, every answer of which takes a while: what a benchmark of remote reading reads.

Lists, tells sizes and gives ranges of the files below a folder; the first part of a path is the bucket. It does what a
request asks, counts it, and waits as long as it is told, so that little but the requests is timed.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    delay_seconds: float
    counts: Counter[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        time.sleep(self.delay_seconds)
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        self.counts["requests"] += 1
        if "list-type" in query:
            return self._send(200, self._listing(url.path.strip("/"), query).encode(), {"Content-Type": "text/xml"})
        file = self.folder / urllib.parse.unquote(url.path).lstrip("/")
        if not file.is_file():
            return self._send(404, b"")
        size, first, last, status = file.stat().st_size, 0, file.stat().st_size - 1, 200
        if with_body and (asked := self.headers.get("Range")):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last, status = int(begin), min(int(end or last), last), 206
        headers = {"Accept-Ranges": "bytes", "ETag": '"0"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if not with_body:
            return self._send(200, b"", headers | {"Content-Length": str(size)})
        with file.open("rb") as opened:
            opened.seek(first)
            data = opened.read(last - first + 1)
        self.counts["bytes"] += len(data)
        return self._send(status, data, headers | {"Content-Range": f"bytes {first}-{last}/{size}"})

    def _listing(self, bucket: str, query: dict[str, list[str]]) -> str:
        prefix = query.get("prefix", [""])[0]
        files = sorted(file for file in (self.folder / bucket).rglob("*") if file.is_file())
        named = [(str(file.relative_to(self.folder / bucket)), file.stat().st_size) for file in files]
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size></Contents>"
            for name, size in named
            if name.startswith(prefix)
        )
        return f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def slow_store(folder: Path, delay_seconds: float) -> Iterator[tuple[str, Counter[str]]]:
    """Address (host:port) of a store of a folder, and how many requests it has answered with how many bytes."""
    counts: Counter[str] = Counter()
    handler = type("Handler", (_Handler,), {"folder": folder, "delay_seconds": delay_seconds, "counts": counts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", counts
    finally:
        server.shutdown()
        server.server_close()


def store_uri(address: str, path: str) -> str:
    """The URI by which pyarrow reads a path (bucket first) of such a store."""
    return f"s3://key:secret@{path}?scheme=http&endpoint_override={address}&region=us-east-1"
