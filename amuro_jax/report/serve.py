"""`amuro report --serve`: the page on localhost, for studies whose rows are too many to travel in
it.

Only this machine is answered, and only requests that name it: a page elsewhere cannot make the
browser read rows through another name for this address (DNS rebinding). No jax.
"""

import http.server
import json
import re

from amuro_jax.errors import AmuroError
from amuro_jax.records import ScoreRecord
from amuro_jax.report import report, rows
from amuro_jax.report.prompts import Prompts
from amuro_jax.results import plan, pooled
from amuro_jax.results.store import Store

HOST = "127.0.0.1"
ROWS = re.compile(r"/rows/([0-9a-f+]+)\.json")
PROMPT = re.compile(r"/prompts/([0-9a-f+]+)/(\d+)\.json")


class Server(http.server.ThreadingHTTPServer):
    """Serves one study's page, rows and prompts.

    Args:
        port: 0: any that is free; `server_port` says which.

    Raises:
        AmuroError: no study there, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, workdir, beside="", suite="", port: int = 0):
        self.store = Store.open(workdir)
        planned = plan.read_plan(self.store.storage)
        own = plan.task_files(self.store.storage)
        self.prompts = Prompts(planned.config.data_root if planned else "", own)
        self.text = report.served_page(workdir, beside, suite).encode()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise AmuroError(
                f"cannot be listened on: {error.strerror}",
                where=f"--port={port}",
                hint="choose another one, or 0 for any that is free",
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def rows(self, key: str) -> dict:
        """The rows of a score for the page's script."""
        return rows.columns_of_score(self.store, key)

    def prompt(self, key: str, row: int) -> list | None:
        """The prompt of one row for the page's script; None where it cannot be rendered again."""
        key = pooled.members(key)[0]
        record = self.store.read(key)
        if not isinstance(record, ScoreRecord) or record.imported:
            return None
        frame = self.store.rows(key, ["row", "prompt_sha256"])
        return rows.prompts_of(self.prompts, record, frame).get(str(row))


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        if self.headers.get("Host") not in names:
            self.send_error(403)
        elif self.path == "/":
            self._answer(self.server.text, "text/html; charset=utf-8")
        elif match := ROWS.fullmatch(self.path):
            self._json(lambda: self.server.rows(match[1]))
        elif match := PROMPT.fullmatch(self.path):
            self._json(lambda: self.server.prompt(match[1], int(match[2])))
        else:
            self.send_error(404)

    def _json(self, make):
        try:
            text = json.dumps(make(), ensure_ascii=False)
        except AmuroError:  # no such score, or a damaged one: the page says that rows are missing
            self.send_error(404)
        else:
            self._answer(text.encode(), "application/json")

    def _answer(self, data, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """A line for each request would hide what the verb says."""
