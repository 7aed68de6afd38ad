"""The address that a page is served at."""

import ipaddress
import socket

from gan_seg_jax.errors import InputError


def taken(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, so that nobody else gets it while the network is loaded.

    Raises:
        InputError: the host is none of this machine, or the port is in use or needs another user.
    """
    try:
        family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host is {host[:60]!r}, which is no address; expected one such as 127.0.0.1.") from None
    try:
        return socket.create_server(found[:2], family=family)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]
        raise InputError(
            f"{_bracketed(found[0])}:{port} cannot be served: {reason}; give another --port or --host."
        ) from None


def place(listening: socket.socket) -> tuple[str, int]:
    """Return the host, in brackets where it has colons, and the port of a socket."""
    host, port = listening.getsockname()[:2]
    return _bracketed(host), port


def url(host: str, port: int) -> str:
    """Return the address for a browser of this machine."""
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return f"http://{local}:{port}/"


def is_open(host: str) -> bool:
    """Tell whether other machines may reach a host of `place`."""
    return not ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
