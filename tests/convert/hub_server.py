"""A server that speaks as much of the Hub's protocol as a download needs, and can misbehave in the
ways networks do.
"""

import contextlib
import hashlib
import http.server
import json
import threading
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves one repository at `revisions`; every revision has the same files.

    Attributes:
        cut_after: bytes of a file's body after which the connection is dropped, once per entry of
            `cuts`.
        cuts: file names whose next download is cut.
        lies: file names of which other bytes are sent than the Hub's record says.
        log: (method, path, Range header) of every request.
    """

    def __init__(
        self,
        folder,
        repository="org/model",
        revisions=("main", "step1000-tokens4B", "step2000-tokens8B"),
    ):
        self.repository, self.revisions = repository, dict.fromkeys(revisions, COMMIT)
        self.contents = {
            path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()
        }
        self.records = {name: self.record(name, data) for name, data in self.contents.items()}
        self.cuts, self.lies, self.log, self.cut_after = [], [], [], 1000
        self.token = None

    @staticmethod
    def record(name, data):
        if name.endswith((".safetensors", ".bin")):
            digest = hashlib.sha256(data).hexdigest()
            return {
                "rfilename": name,
                "size": len(data),
                "blobId": "0" * 40,
                "lfs": {"sha256": digest, "size": len(data), "pointerSize": 134},
            }
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"rfilename": name, "size": len(data), "blobId": blob}

    def etag(self, name):
        record = self.records[name]
        return record["lfs"]["sha256"] if "lfs" in record else record["blobId"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        hub.log.append((self.command, self.path, self.headers.get("Range")))
        path = self.path.split("?")[0]
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(401, b"{}", X_Error_Code="GatedRepo", X_Error_Message="ask")
        if path == f"/api/models/{hub.repository}/refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in hub.revisions.items()
            ]
            return self.answer(
                200, json.dumps({"branches": branches, "tags": [], "converts": []}).encode()
            )
        api, resolve = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            return self.info(hub, path)
        if path.startswith(resolve):
            return self.file(hub, *path[len(resolve) :].split("/", 1))
        return self.answer(404, b"{}", X_Error_Code="RepoNotFound")

    def info(self, hub, path):
        revision = path.split("/revision/")[1] if "/revision/" in path else "main"
        if revision not in hub.revisions and revision not in hub.revisions.values():
            return self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
        value = {
            "id": hub.repository,
            "modelId": hub.repository,
            "sha": hub.revisions.get(revision, COMMIT),
            "siblings": list(hub.records.values()),
            "tags": [],
        }
        return self.answer(200, json.dumps(value).encode())

    def file(self, hub, revision, name):
        if name not in hub.contents:
            return self.answer(404, b"{}", X_Error_Code="EntryNotFound")
        body = hub.contents[name]
        if name in hub.lies:
            body = body[:-1] + bytes([body[-1] ^ 1])
        first = (
            int(self.headers["Range"].split("=")[1].split("-")[0])
            if self.headers.get("Range")
            else 0
        )
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{hub.etag(name)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if name in hub.cuts:
            hub.cuts.remove(name)
            self.wfile.write(body[first : first + hub.cut_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return None
        self.wfile.write(body[first:])
        return None


@contextlib.contextmanager
def serve(hub):
    """Runs the server in a thread; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.hub = True, hub
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
