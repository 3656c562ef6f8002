"""What `amuro doctor` says of the Hub and of storages; the Hub is one on this machine."""

import http.server
import json
import threading
import time

import pytest

from amuro_jax.doctor import outside
from amuro_jax.doctor.finding import look
from amuro_jax.errors import CheckpointError
from amuro_jax.storage import Storage

TOKEN = "hf_known"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers, and knows one token."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        body = json.dumps({"name": "ada"} if known else {"error": "Invalid token"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing on stderr."""


@pytest.fixture
def endpoint(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    yield address
    server.shutdown()


@pytest.mark.parametrize("token,said", [("", "no token"), (TOKEN, "the token is ada's")])
def test_the_hub_answers(endpoint, monkeypatch, tmp_path, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    finding = outside.hub_reach()
    assert finding.ok and said in finding.text and endpoint in finding.text
    assert TOKEN not in repr(finding)


def test_a_token_that_the_hub_does_not_know_is_not_shown(endpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(CheckpointError, match="does not know the token") as caught:
        outside.hub_reach()
    assert "hf_secret" not in str(caught.value)


def test_a_hub_that_does_not_answer(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="cannot be reached") as caught:
        outside.hub_reach()
    assert "HF_HUB_OFFLINE" in caught.value.hint  # nothing was being downloaded


def test_a_storage_that_keeps_its_word(storage_url):
    place = Storage.open(storage_url)
    place.replace("own", b"")
    finding = outside.storage(place, 0)
    assert finding.ok and place.names() == ["own"], finding.text


@pytest.mark.parametrize(
    "name,replacement,said",
    [
        ("write_once", lambda *_: True, "created again"),
        ("names", lambda *_: [], "the listing shows []"),
        ("get", lambda *_: b"first", "old content"),
        ("read_log", lambda *_: [{"line": 1}], "lost lines"),
        ("delete", lambda *_: None, "still listed"),
    ],
)
def test_a_storage_that_does_not_is_told(tmp_path, monkeypatch, name, replacement, said):
    place = Storage.open(str(tmp_path / "kept"))
    monkeypatch.setattr(type(place), name, replacement)
    finding = outside.storage(place, 0)
    assert not finding.ok and said in finding.text and finding.hint


@pytest.mark.parametrize("ahead,ok", [(0, True), (30, True), (100, False), (-100, False)])
def test_clocks(storage_url, monkeypatch, ahead, ok):
    """The storage's clock is real; this machine's is moved."""
    place, now = Storage.open(storage_url), time.time
    monkeypatch.setattr(outside.time, "time", lambda: now() + ahead)
    finding = outside.clock(place, 0)
    assert finding.ok == ok and finding.values["ahead_seconds"] == pytest.approx(ahead, abs=2)
    assert place.names() == []


def test_programs_that_cannot_be_kept_are_an_error_of_ours(tmp_path):
    """jax itself only warns, once for each program."""
    (tmp_path / "file").touch()
    finding = look("programs", outside.program_cache, Storage.open(str(tmp_path / "file/x")), 0)
    assert not finding.ok and "cannot write" in finding.text


def test_a_storage_tells_when_a_file_was_written(storage_url):
    place = Storage.open(storage_url)
    place.replace("a", b"")
    assert place.modified("a") == pytest.approx(time.time(), abs=10)
