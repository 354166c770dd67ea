"""Downloads against an https server on this machine: what is fetched, and everything that is refused."""

import io
import itertools
import os
import socket
import ssl
import threading
from functools import partial

import pytest
from https_server import Server, page, write_certificate
from PIL import Image

from core.errors import UserError
from infer import fetch as module
from infer.fetch import fetch, is_public
from infer.image import load_image

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("tls"), ["images.test", "inner.test"])


@pytest.fixture
def server(certificate):
    server = Server(*certificate)
    yield server
    server.close()


@pytest.fixture
def get(server, certificate):
    """Fetch a path of the server, whose address alone is allowed here; `hosts` maps names to addresses."""
    def run(path, host="images.test", hosts=None, **options):
        hosts = hosts or {"images.test": [HERE], "inner.test": ["10.1.2.3"], HERE: [HERE]}
        arguments = {"resolve": lambda name, _: hosts[name], "allowed": lambda address: address == HERE,
                     "ssl_context": ssl.create_default_context(cafile=certificate[0]), **options}
        return fetch(f"https://{host}:{server.port}{path}", **arguments)
    return run


def refused(words, call, *arguments, **options):
    with pytest.raises(UserError, match=words) as fault:
        call(*arguments, **options)
    assert "\n" not in str(fault.value) and str(fault.value).startswith("cannot download")


def test_body_and_what_was_asked(server, get):
    server.answers["/a.png?x=1"] = page(b"content")
    assert get("/a.png?x=1#part") == b"content"
    (head,) = server.requests
    assert head.startswith("GET /a.png?x=1 HTTP/1.1\r\n") and f"Host: images.test:{server.port}" in head
    assert "identity" in head and "cookie" not in head.lower()


def test_an_address_instead_of_a_name(server, get):
    server.answers["/"] = page(b"content")
    assert get("/", host=HERE) == b"content"


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "203.0.113.7", "192.88.99.1", "::1", "::",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2001:0:4136:e378::1", "127.1", "localhost", ""])
def test_no_public_address(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8",
                                     "64:ff9b::8.8.8.8"])
def test_public_address(address):
    assert is_public(address)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://[::1]/", "https://[::ffff:7f00:1]/", "https://127.1/",
                                 "https://0x7f000001/", "https://2130706433/", "https://localhost/"])
def test_this_machine_is_refused_by_default(url):
    refused("no public address", fetch, url)


def test_one_inner_address_among_the_answers_is_enough(server, get):
    refused("10.0.0.1, which is no public address", get, "/", hosts={"images.test": [HERE, "10.0.0.1"]})
    assert server.requests == []


def test_a_name_is_resolved_once_and_that_address_used(server, get):
    """Otherwise a name could have a public address when it is checked and another when it is connected to."""
    server.answers["/"] = page(b"content")
    answers = iter([[HERE], ["10.0.0.1"]])
    assert get("/", resolve=lambda *_: next(answers)) == b"content"
    assert next(answers) == ["10.0.0.1"]


def test_the_next_address_is_tried(server, get):
    server.answers["/"] = page(b"content")
    assert get("/", hosts={"images.test": ["127.0.0.2", HERE]}, allowed=lambda address: True) == b"content"


@pytest.mark.parametrize("url, words", [
    ("http://images.test/", "no https"), ("HTTP://images.test/", "no https"), ("file:///etc/passwd", "no https"),
    ("https://", "no https"), ("https://user@images.test/", "user name"), ("https://a:b@images.test/", "user name"),
    ("https://images.test\\@evil.test/", "user name"), ("https://images.test:0/", "port 0"),
    ("https://images.test:65536/", "port 65536"), ("https://images.test/\r\nX: y", "non-printable"),
    ("https://" + "a" * 3000, "characters"), ("https://[::1/", "cannot download"),
    ("https://none.test/", "no such host"),
])
def test_addresses_that_are_not_asked_for(url, words):
    def resolve(*_):
        raise OSError

    refused(words, fetch, url, resolve=resolve)


def test_redirects_are_followed(server, get):
    server.answers["/old"] = page(b"", "302 Found", Location="new?x=1")
    server.answers["/new?x=1"] = page(b"", "308 Permanent Redirect", Location=f"//images.test:{server.port}/last")
    server.answers["/last"] = page(b"content")
    assert get("/old") == b"content"


@pytest.mark.parametrize("target, words", [
    ("https://inner.test/", "inner.test is at 10.1.2.3, which is no public address"),
    ("https://10.1.2.3/", "10.1.2.3"), ("http://images.test/", "no https"), ("file:///etc/passwd", "no https"),
    ("https://user@images.test/", "user name"), ("https://[", "cannot download"), ("\xff\xfe", "answers 404"),
])
def test_redirects_that_are_refused(server, get, target, words):
    server.answers["/"] = page(b"", "301 Moved", Location=target)
    server.answers["/%C3%BF%C3%BE"] = page(b"", "404 Not Found")
    refused(words, get, "/", resolve=lambda host, _: {"inner.test": ["10.1.2.3"]}.get(host, [host if "10." in host
                                                                                           else HERE]))


def test_redirects_without_end(server, get):
    server.answers["/"] = page(b"", "302 Found", Location="/")
    refused("redirects more than 5 times", get, "/")
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "500 Oops", "204 No Content", "206 Partial"])
def test_other_answers(server, get, status):
    server.answers["/"] = page(b"", status)
    refused(f"answers {status[:3]}", get, "/")


def test_an_announced_size_is_refused_before_it_is_read(server, get):
    server.answers["/"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n"]
    refused("larger than 1 MiB", get, "/", max_bytes=1 << 20)


def test_a_body_without_end_is_cut(server, get):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/"] = itertools.chain([head], itertools.repeat(b"1000\r\n" + bytes(4096) + b"\r\n"))
    refused("larger than 1 MiB", get, "/", max_bytes=1 << 20)


def test_headers_without_end_are_cut(server, get):
    server.answers["/"] = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: " + b"y" * 1000 + b"\r\n"))
    refused("cannot download", get, "/")


@pytest.mark.parametrize("answer", [[], [b"nonsense\r\n\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
                                    [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"]])
def test_answers_that_are_no_http(server, get, answer):
    server.answers["/"] = answer
    refused("cannot download", get, "/")


def test_compressed_bodies_are_refused(server, get):
    server.answers["/"] = page(b"x", Content_Encoding="gzip")
    refused("compresses", get, "/")


def test_certificates_are_checked(server, get, certificate):
    server.answers["/"] = page(b"content")
    refused("CERTIFICATE_VERIFY_FAILED", get, "/", ssl_context=None)
    refused("CERTIFICATE_VERIFY_FAILED", get, "/", host="other.test", hosts={"other.test": [HERE]})


def test_a_trickle_ends_with_the_whole_time(server, get, monkeypatch):
    """Every single read is fast here; the clock, which advances with each look at it, ends the sum of them."""
    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 10)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/"] = itertools.chain([head], itertools.repeat(b"1\r\nx\r\n"))
    refused("longer than 20 s", get, "/", seconds=20)


def test_a_server_that_says_nothing(get):
    with socket.create_server((HERE, 0)) as silent:
        url = f"https://images.test:{silent.getsockname()[1]}/"
        refused("longer than 0.2 s", fetch, url, resolve=lambda *_: [HERE], allowed=lambda _: True, seconds=0.2)


def test_a_resolver_that_hangs():
    release = threading.Event()

    def resolve(*_):
        release.wait()
        return [HERE]

    try:
        refused("longer than 0.2 s", fetch, "https://images.test/", resolve=resolve, seconds=0.2)
    finally:
        release.set()


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 30, 60)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def load(server, get, monkeypatch, certificate):
    """load_image on the server's answer."""
    local = partial(fetch, resolve=lambda *_: [HERE], allowed=lambda _: True,
                    ssl_context=ssl.create_default_context(cafile=certificate[0]))
    monkeypatch.setattr(module, "fetch", local)
    return lambda: load_image(f"https://images.test:{server.port}/x.gif")


def test_the_content_decides_not_the_server(server, load, monkeypatch):
    monkeypatch.setenv("ALLOW_URL", "1")
    server.answers["/x.gif"] = page(png(), Content_Type="text/html")
    assert load().size == (30, 20)
    server.answers["/x.gif"] = page(b"<html>not found</html>", Content_Type="image/png")
    with pytest.raises(UserError, match="is not an image that can be read"):
        load()


@pytest.mark.parametrize("value", [None, "", "0", "yes"])
def test_nothing_is_downloaded_unless_it_is_allowed(server, load, monkeypatch, value):
    monkeypatch.delenv("ALLOW_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("ALLOW_URL", value)
    with pytest.raises(UserError, match="set ALLOW_URL=1"):
        load()
    assert server.requests == []


def test_a_file_may_look_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("https:")
    Image.new("RGB", (8, 8)).save("https:/a.png")
    assert load_image("https:/a.png").size == (8, 8)
