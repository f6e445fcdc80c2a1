"""Why a scheduler's address cannot be used: what a plain socket finds there."""

from __future__ import annotations

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

TCP_SECONDS = 5.0
"""How long a TCP connection may take."""
_PROBE_SECONDS = 2.0


def obstacle(address: str) -> str:
    """Return why no TCP connection to this address can be made, for people; empty if one can."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or 0), TCP_SECONDS):
            return ""
    except socket.gaierror as error:
        return f"there is no host {parts.hostname!r} ({error.strerror})"
    except ConnectionRefusedError:
        return "nothing listens there (connection refused)"
    except TimeoutError:
        return f"no answer within {TCP_SECONDS:g} s: a firewall may drop the packets, or the host is down"
    except OSError as error:
        return f"it cannot be reached: {error.strerror or error}"


def other_protocol(address: str) -> str:
    """Return what is spoken at an address where a Dask client found no scheduler, for people; empty if not known."""
    parts = urlsplit(address)
    place = (parts.hostname or "", parts.port or 0)
    tls = _speaks_tls(place)
    if tls and parts.scheme == "tcp":
        return f"port {parts.port} speaks TLS: write tls:// instead of tcp://"
    if not tls and _asked_for_a_page(place).startswith(b"HTTP/"):
        return f"port {parts.port} speaks HTTP: it may be the dashboard's and not the scheduler's"
    if not tls and parts.scheme == "tls":
        return f"port {parts.port} does not speak TLS: a scheduler without TLS has an address that begins with tcp://"
    return ""


def refusal(address: str, context: ssl.SSLContext) -> str:
    """Return why a server closes connections with this context, as it or TLS says; empty if it does not.

    A server looks at the client's certificate after the client's part is done. What the client sends then can overtake
    the reason, and only the end of the connection is seen; so nothing is sent here.
    """
    parts = urlsplit(address)
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 0), _PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
        ):
            connection.recv(1)
    except ssl.SSLError as error:
        return f"{type(error).__name__}: {error}"
    except OSError:
        pass
    return ""


def _speaks_tls(place: tuple[str, int]) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(place, _PROBE_SECONDS) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it refuses this client, in TLS
    except OSError:
        return False


def _asked_for_a_page(place: tuple[str, int]) -> bytes:
    """Return how the answer to a request of HTTP begins; a scheduler drops such a connection."""
    with contextlib.suppress(OSError), socket.create_connection(place, _PROBE_SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(5)
    return b""
