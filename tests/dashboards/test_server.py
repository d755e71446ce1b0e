"""What a W&B server may answer: anything, and the API key stays with the server that was named."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from intensive_callbacks.dashboards import server as servers
from intensive_callbacks.dashboards.server import Server, ServerError

KEY = "0123456789" * 4


@pytest.fixture
def serve():
    """Start servers that answer by a function of the handler; each records the authorization it was sent."""
    started = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                self.server.seen.append(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with suppress(OSError):  # the client may have gone
                    answer(self)

            def do_GET(self):
                self.do_POST()

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.daemon_threads, http.seen = True, []
        threading.Thread(target=http.serve_forever, daemon=True).start()
        started.append(http)
        return http, f"http://127.0.0.1:{http.server_port}"

    yield start
    for http in started:
        http.shutdown()
        http.server_close()


def answering(body, status=200, **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_answer_of_the_expected_form(serve):
    http, address = serve(answering(b'{"data": {"viewer": {"id": "v"}}}'))
    assert Server(address, KEY).ask("query", {}) == {"viewer": {"id": "v"}}
    assert len(http.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_follows_no_redirect(serve, status):
    stranger, other = serve(answering(b'{"data": {}}'))
    _, address = serve(answering(b"", status, Location=f"{other}/login"))
    with pytest.raises(ServerError, match=r"redirects to 127\.0\.0\.1"):
        Server(address, KEY).ask("query", {})
    assert stranger.seen == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"data": null}', b'{"data": [1]}', b"{", b"<html>", b"\xff", b"5", b"null", b"[" * 100_000]
    + [json.dumps({"errors": errors}).encode() for errors in ("x", [], [1], [None], {"a": 1}, [{"message": 5}])],
)
def test_odd_answer_is_an_error_with_a_reason(serve, body):
    _, address = serve(answering(body))
    with pytest.raises(ServerError, match=r"\w"):
        Server(address, KEY).ask("query", {})


def test_text_of_the_server_drives_no_terminal(serve):
    text = "\x1b]0;owned\x07\u202e no\nluck" + "x" * 10_000
    for status in (200, 400, 500):
        _, address = serve(answering(json.dumps({"errors": [{"message": text}]}).encode(), status))
        with pytest.raises(ServerError) as caught:
            Server(address, KEY).ask("query", {})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) <= 300
        assert caught.value.status == (None if status == 200 else status)


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"A: b\r\n")
        time.sleep(0.05)


def flood(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 1_000_000)


@pytest.mark.parametrize("answer", [drip, drip_headers, flood, lambda handler: time.sleep(5)])
def test_slow_and_endless_answers_end(serve, monkeypatch, answer):
    monkeypatch.setattr(servers, "SECONDS", 1)
    _, address = serve(answer)
    begun = time.monotonic()
    with pytest.raises(ServerError, match=r"did not answer|more than|timed out"):
        Server(address, KEY).ask("query", {})
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "address",
    ["http://api.example.org", "ftp://127.0.0.1", "file:///etc", "http://", "", "http://[", "http://10.0.0.1"],
)
def test_key_goes_over_https_or_to_this_machine_only(address):
    with pytest.raises(ServerError, match="over https only"):
        Server(address, KEY)


def test_key_of_the_netrc_file(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Server("https://api.wandb.ai")
    with pytest.raises(ServerError, match="run wandb login"):
        Server("https://api.example.org")
