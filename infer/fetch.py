"""Downloads one file by https, for images: public addresses only, with limits on size and on the whole time."""

import contextlib
import ipaddress
import socket
import threading
import time

import httpcore
import httpx

from core.errors import UserError

MAX_BYTES = 32 << 20
MAX_SECONDS = 30.0
MAX_REDIRECTS = 5
MAX_URL = 2048
AGENT = b"qwen-vl-paddle"
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
NOT_PUBLIC = tuple(map(ipaddress.ip_network, (
    "2002::/16",        # 6to4 and
    "2001::/32",        # Teredo carry IPv4 addresses of their own
    "64:ff9b:1::/48",   # translation inside a network, RFC 8215
    "fec0::/10",        # site-local
    "::/96",            # IPv4-compatible
    "192.88.99.0/24",   # 6to4 relays
)))


def is_public(address):
    """Whether an IP address (a text) belongs to a host of the public internet; False for what is no address.

    Private, loopback, link-local, shared, multicast, reserved and documentation ranges are not public, nor are IPv6
    addresses that stand for such an IPv4 address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6:
        if ip.scope_id is not None:
            return False
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if any(ip in network for network in NOT_PUBLIC if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_unspecified or ip.is_reserved)


class _TooLate(Exception):
    """The time for the whole download is over."""


class _Deadline:
    def __init__(self, seconds):
        self._end = time.monotonic() + seconds

    def left(self):
        """Seconds left, more than 0; raises _TooLate."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise _TooLate
        return left


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline, so that a slow trickle cannot go on."""

    def __init__(self, stream, deadline):
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes, timeout=None):
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer, timeout=None):
        self._stream.write(buffer, self._deadline.left())

    def close(self):
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info):
        return self._stream.get_extra_info(info)


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to the very addresses that were checked: a name cannot be resolved to another one in between."""

    def __init__(self, deadline, resolve, allowed):
        self._deadline, self._resolve, self._allowed = deadline, resolve, allowed
        self._backend = httpcore.SyncBackend()

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        addresses = self._resolved(host, port)
        inner = [address for address in addresses if not self._allowed(address)]
        if inner:
            raise UserError(f"{host} is at {inner[0]}, which is no public address: download the image yourself")
        for others, address in zip(reversed(range(len(addresses))), addresses):
            try:  # each may take its share of the time
                stream = self._backend.connect_tcp(address, port, self._deadline.left() / (others + 1), local_address,
                                                   socket_options)
                return _Stream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as e:
                fault = e
        raise fault

    def _resolved(self, host, port):
        """Addresses of a host name, at least one. The system's resolver has no time limit, so a thread waits for it."""
        addresses = []

        def look_up():
            with contextlib.suppress(OSError, ValueError):  # ValueError: no host can have such a name
                addresses.extend(dict.fromkeys(self._resolve(host, port)))

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(self._deadline.left())
        self._deadline.left()
        if not addresses:
            raise httpcore.ConnectError("no such host")
        return addresses


def _checked(url):
    """An httpx.URL that may be asked for; raises UserError or httpx.InvalidURL."""
    if len(str(url)) > MAX_URL:
        raise UserError(f"an address of more than {MAX_URL} characters")
    url = httpx.URL(url)
    if url.scheme != "https" or not url.host:
        raise UserError(f"{_shown(url)} is no https:// address, and only those are downloaded")
    if url.userinfo:
        raise UserError("an address with a user name is not downloaded")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise UserError(f"there is no port {url.port}")
    return url


def _get(pool, url, max_bytes):
    """(status, headers, body) of one request; the body is read for status 200 only."""
    headers = {b"Host": url.netloc, b"Accept": b"image/*", b"Accept-Encoding": b"identity", b"User-Agent": AGENT}
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    with pool.stream("GET", target, headers=list(headers.items())) as response:
        received = {name.lower(): value for name, value in response.headers}
        body = bytearray()
        if response.status == 200:
            if received.get(b"content-encoding", b"identity") != b"identity":
                raise UserError("the server compresses what it was asked to send as it is")
            announced = int(received.get(b"content-length", b"0"))
            for part in response.iter_stream() if announced <= max_bytes else ():
                body += part
                if len(body) > max_bytes:
                    break
            if max(announced, len(body)) > max_bytes:
                raise UserError(f"it is larger than {max_bytes >> 20} MiB")
        return response.status, received, bytes(body)


def _shown(text):
    """A text from outside, short and without what could steer a terminal."""
    return ascii(str(text)[:200])[1:-1]


def addresses_of(host, port):
    """IP addresses of a host name, as the system resolves it; raises OSError."""
    return [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def fetch(url, resolve=addresses_of, allowed=is_public, ssl_context=None, max_bytes=MAX_BYTES, seconds=MAX_SECONDS):
    """Download `url` and return its bytes; raises UserError with the reason when that is refused or fails.

    Only https, without a user name, to hosts all of whose addresses are `allowed`; every redirect is checked like the
    first address, and at most 5 are followed. At most `max_bytes` are read, and everything together, from resolving
    the name to the last byte, takes at most about `seconds`. Proxies and cookies are not used. The certificate is
    checked with `ssl_context`, by default against certifi's authorities (or SSL_CERT_FILE).
    """
    deadline = _Deadline(seconds)
    printable_url = _shown(url)
    network = _CheckedNetwork(deadline, resolve, allowed)
    try:
        target = _checked(url)
        context = ssl_context or httpx.create_ssl_context()
        with httpcore.ConnectionPool(ssl_context=context, network_backend=network, max_keepalive_connections=0) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                status, headers, body = _get(pool, target, max_bytes)
                if status not in REDIRECTS:
                    break
                target = _checked(target.join(headers.get(b"location", b"").decode("latin-1")))
            else:
                raise UserError(f"{printable_url} redirects more than {MAX_REDIRECTS} times")
    except UserError as e:
        raise UserError(f"cannot download {printable_url}: {e}") from None
    except (_TooLate, httpcore.TimeoutException):
        raise UserError(f"cannot download {printable_url}: it takes longer than {seconds:g} s") from None
    except (httpx.InvalidURL, httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as e:
        raise UserError(f"cannot download {printable_url}: {_shown(str(e) or type(e).__name__)}") from None
    if status != 200:
        raise UserError(f"cannot download {printable_url}: the server answers {status}")
    return body
