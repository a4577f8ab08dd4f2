"""The page at /, used in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from serve import client
from serve.process.launch import running_server
from tests.serve.browser import Page, chromium, opened

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as resources:
        yield resources


@pytest.fixture(scope="module")
def url(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory, stack: ExitStack) -> str:
    log = tmp_path_factory.mktemp("page") / "log"
    return stack.enter_context(running_server(tiny_artifact, log_path=log))


@pytest.fixture
def page(url: str, tmp_path: Path) -> Iterator[Page]:
    with opened(f"{url}/", tmp_path) as one:
        one.wait_for("document.getElementById('name').textContent === 'tiny'")
        yield one


def test_several_photos_are_answered_each_with_its_name_and_time(
    page: Page, url: str, tmp_path: Path, make_picture, encode
) -> None:
    files = [tmp_path / f"photo {number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(encode(make_picture(number), "JPEG"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(files[0].read_bytes()[:300])
    page.choose("#file", *files, broken)
    page.wait_for("document.getElementById('status').textContent === '3 photos answered, 1 not.'")
    cards = page.value(
        "[...document.querySelectorAll('#photos > li')].map(card => [card.querySelector('h2')"
        ".textContent, [...card.querySelectorAll('ol span:first-child')].map(s => s.textContent),"
        " card.querySelector('p').textContent])"
    )
    names = ["broken.jpg", *(file.name for file in reversed(files))]
    assert [card[0] for card in cards] == names
    assert cards[0][1] == []
    words, card = (
        page.value(f"document.querySelector('#photos > li{inner}').clientWidth")
        for inner in (" > div", "")
    )
    assert words > 0.8 * card  # no column is kept for a picture that cannot be shown
    assert cards[0][2].startswith("The image")
    for file, card in zip(reversed(files), cards[1:], strict=True):
        wanted = client.classify(url, file.read_bytes())["predictions"]
        assert card[1] == [one["label"] for one in wanted]
        assert "ms in the service (decode" in card[2]


def test_it_shows_where_the_model_comes_from(page: Page, url: str) -> None:
    facts = page.value("document.getElementById('facts').textContent")
    said = client.describe_model(url)
    assert said["digest"] in facts
    assert all(step["digest"] in facts for step in said["lineage"])


@contextmanager
def below_a_prefix(url: str, prefix: str) -> Iterator[str]:
    """A reverse proxy that serves `url` below a prefix, as nginx or an ingress does."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix(prefix)
            if path == self.path:
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            kept = ("authorization", "content-type")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            answer = httpx.request(
                self.command, f"{url}/{path.lstrip('/')}", content=body, headers=headers
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in ("connection", "date"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}{prefix}"
        proxy.shutdown()
        thread.join()


@pytest.mark.parametrize("ending", ["", "/", "/?from=mail#top"])
def test_it_works_below_a_prefix_of_a_reverse_proxy(
    url: str, tmp_path: Path, jpeg: bytes, ending: str
) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(jpeg)
    folder = tmp_path / "browser"
    folder.mkdir()
    with (
        below_a_prefix(url, "/models/flowers") as below,
        opened(f"{below}{ending}", folder) as page,
    ):
        page.wait_for("document.getElementById('name').textContent === 'tiny'")
        page.choose("#file", photo)
        page.wait_for("document.getElementById('status').textContent === '1 photo answered.'")
        assert client.describe_model(url)["digest"] in page.value("document.body.textContent")
        asked = [one for one in page.requested if one.startswith("http")]
        assert all(one.startswith(below) for one in asked)
        assert page.said == []


def test_it_asks_no_other_host_and_breaks_no_rule_of_its_own(page: Page, url: str) -> None:
    page.value("1")
    assert page.requested
    assert all(one.startswith((url, "data:", "blob:")) for one in page.requested)
    assert page.said == []


def test_keyboard_and_screen_reader(page: Page) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {(one["role"]["value"], one.get("name", {}).get("value", "")) for one in tree}
    assert any(role == "status" for role, _ in roles)
    assert any(name.startswith("Drop photos here") for _, name in roles)
    assert ("list", "Photos, the latest first") in roles
    page.value("document.getElementById('file').focus()")
    assert page.value("document.activeElement.id") == "file"


def test_a_token_is_asked_for_and_used(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_TOKEN", "a-token-for-tests")
    photo = tmp_path / "a.jpg"
    photo.write_bytes(jpeg)
    folder = tmp_path / "browser"
    folder.mkdir()
    with (
        running_server(tiny_artifact, log_path=tmp_path / "log") as url,
        below_a_prefix(url, "/a") as below,
        opened(f"{below}/", folder) as page,
    ):
        page.wait_for("document.getElementById('key').hidden === false")
        page.value(
            "document.getElementById('token').value = 'a-token-for-tests';"
            "document.getElementById('key').requestSubmit()"
        )
        page.wait_for("document.getElementById('key').hidden === true")
        page.choose("#file", photo)
        page.wait_for("document.getElementById('status').textContent === '1 photo answered.'")
