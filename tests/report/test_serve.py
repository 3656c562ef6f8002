"""The page on localhost."""

import http.client
import json
import threading

import pytest

from amuro_jax.errors import AmuroError
from amuro_jax.report.serve import Server
from amuro_jax.results.store import Store
from tests.study import synthetic


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    synthetic.make_store(folder, rows=12, steps=(16, 1600))
    with Server(folder) as started:
        thread = threading.Thread(target=started.serve_forever, daemon=True)
        thread.start()
        yield started
        started.shutdown()


def get(server, path, host=None):
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    link.request("GET", path, headers={"Host": host} if host else {})
    answer = link.getresponse()
    return answer.status, answer.read()


def test_the_page_may_ask_its_own_server_alone(server):
    status, text = get(server, "/")
    assert status == 200 and b"connect-src 'self'" in text and b'data-served="yes"' in text
    assert b'id="rows-of-0"' not in text


def test_rows_of_a_score_are_those_of_the_store(server):
    key = min(Store.open(server.store.storage).frame()["key"])
    status, text = get(server, f"/rows/{key}.json")
    rows = json.loads(text)
    stored = server.store.rows(key).sort_values("row")
    assert status == 200 and rows["row"] == list(range(12))
    assert rows["score"] == pytest.approx(list(stored["score"]), abs=1e-4)


@pytest.mark.parametrize("path", ["/rows/ffff.json", "/rows/../study.json", "/cells.log", "/x"])
def test_nothing_else_is_served(server, path):
    assert get(server, path)[0] == 404


def test_a_prompt_that_cannot_be_rendered_is_null(server):
    key = min(Store.open(server.store.storage).frame()["key"])
    assert get(server, f"/prompts/{key}/3.json") == (200, b"null")


def test_other_names_of_this_machine_are_refused(server):
    assert get(server, "/", host="evil.example")[0] == 403
    assert get(server, "/", host=f"localhost:{server.server_port}")[0] == 200


def test_a_port_that_is_taken_is_an_error(server, tmp_path):
    with pytest.raises(AmuroError, match="cannot be listened on"):
        Server(server.store.storage, port=server.server_port)
