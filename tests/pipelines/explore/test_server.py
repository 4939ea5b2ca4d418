"""Who is let in, and what is said where nothing can be served."""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import pytest

pytest.importorskip("bokeh", reason="the explorer is an extra: pip install '.[explore]'")
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from gated_vae.pipelines.explore import server
from tests.machine import HANG
from tests.pipelines.explore.runs import make_run
from tests.pipelines.explore.serving import exploring
from tests.pipelines.test_cli import pipe


def get(address: str, **headers: str) -> tuple[int, HTTPResponse | HTTPError]:
    try:
        answer = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=HANG)
    except HTTPError as error:
        with error:
            return error.code, error
    with answer:
        return answer.status, answer


def connects(address: str, origin: str) -> bool:
    """Whether a page of an origin may open a connection; it lacks the page's own token, so that none is made."""

    async def connect() -> bool:
        request = HTTPRequest(f"{address.replace('http', 'ws')}ws", headers={"Origin": origin})
        try:
            connection = await websocket_connect(request, subprotocols=["bokeh", "no.token"])
        except HTTPClientError:  # 403
            return False
        assert await connection.read_message() is None  # closed at once
        return True

    return asyncio.run(connect())


@pytest.mark.slow
def test_only_this_machine_by_its_own_names_is_let_in(tmp_path: Path) -> None:
    with exploring(make_run(tmp_path, 60)) as address:
        assert get(address)[0] == 200
        assert get(f"{address}picture/59.png")[0] == 200
        for wrong in ("60", "-1", "1e3", "999999999999999", "..%2f..%2fetc"):
            assert get(f"{address}picture/{wrong}.png")[0] == 404
        port = address.rstrip("/").rpartition(":")[2]
        assert get(address, Host=f"localhost:{port}")[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "localhost", f"localhost.evil.example:{port}"):
            assert get(address, Host=host)[0] == 403
            assert get(f"{address}picture/1.png", Host=host)[0] == 403
            assert not connects(address, f"http://{host}")


@pytest.mark.slow
def test_beyond_this_machine_a_token_is_wanted(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123"
    (tmp_path / "token").write_text(f"{secret}\n")
    with exploring(make_run(tmp_path, 60), "--host", "0.0.0.0", "--token-file", tmp_path / "token") as address:
        address = address.replace("0.0.0.0", "127.0.0.1")
        for wrong in ("", "?token=", f"?token={secret[:-1]}", f"?token={secret}0", "?token=%00%ff", "?other=1"):
            for path in ("", "picture/1.png"):
                code, answer = get(f"{address}{path}{wrong}")
                assert code in (400, 401, 403)
                assert secret not in str(answer.headers)
        code, answer = get(f"{address}?token={secret}")
        assert code == 200
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert "SameSite=Strict" in answer.headers["Set-Cookie"]
        assert secret not in cookie
        assert address.rstrip("/").rpartition(":")[2] in cookie  # as browsers keep one for all ports
        assert get(f"{address}picture/1.png", Cookie=cookie)[0] == 200
        assert get(f"{address}picture/1.png", Cookie=cookie[:-1])[0] == 401


def test_a_machine_whose_name_nobody_knows_is_called_by_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "getfqdn", socket.gethostname)
    assert server._names("0.0.0.0", 5) >= {f"{socket.gethostname()}:5", "localhost:5"}


def test_what_cannot_be_served_is_told_in_three_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, 60)
    capsys.readouterr()

    def told(*words: object, code: int = 1) -> list[str]:
        assert pipe("explore", *map(str, words)) == code
        return capsys.readouterr().err.splitlines()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lines = told(run, "--port", port)
        assert lines[:2] == [f"http://127.0.0.1:{port} cannot be served.", "Address already in use."]
    assert told(run, "--host", "0.0.0.0")[:2] == ["A token is needed.", "0.0.0.0 can be reached from other machines."]
    assert told(run, "--host", "::1", code=2)[0] == "::1 cannot be served."
    (tmp_path / "token").write_text("short")
    assert "16 letters and digits" in told(run, "--token-file", tmp_path / "token")[1]
    assert told(tmp_path / "nothing")[0] == f"There is no store at {tmp_path / 'nothing'}."
    assert told(tmp_path / "store", "--html", tmp_path / "page.html", code=2)[1] == f"{tmp_path / 'store'} is no run."
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert told(run) == [
        "The explorer needs Bokeh.",
        "It is not installed.",
        "Install it: pip install bokeh, or '.[explore]' from a clone.",
    ]
