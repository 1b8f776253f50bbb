"""Which requests are answered: those of the server's own pages and of programs, not those of other web sites.

A page of another site can send a form, or a text that is JSON, without being asked; it cannot send a header of its own, as
browsers ask the server first. And a name of its own that it lets lead to this machine (DNS rebinding) makes it look like a
page of the server; but then the request says that name.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import folder_paths
from aiohttp import web
from comfy.cli_args import args

from ..schedules.schedule import shown

HEADER = "X-LeMiCa"
"""Every request that may change something has it, with the value 1."""

HOSTS = "hosts.txt"
"""The names that the server's owner lets it be asked by, one a line; in the pack's folder of ComfyUI's user directory."""

MAX_HOSTS = 1 << 16

PORTS = {"http": 80, "https": 443}


class ForbiddenError(ValueError):
    """A request may come from a page of another web site."""


def check_sender(request: web.Request) -> None:
    """ForbiddenError for a request by a foreign name, or one to change something that a foreign page could send."""
    host = request.headers.get("Host")
    if host is not None and _only_loopback() and not _is_own(_parts(host)[0]):
        raise ForbiddenError(
            f"The request is for {shown(host)}, and this server listens on this machine alone: if that is a name of yours "
            f"for it, write it into {HOSTS} in the folder lemica of ComfyUI's user directory, one name a line."
        )
    if request.method == "GET":
        return
    if request.headers.get(HEADER) != "1":
        raise ForbiddenError(f"The request lacks the header {HEADER}: 1, which pages of other web sites cannot send.")
    origin = request.headers.get("Origin")
    if origin is not None and not _is_here(origin, host):
        raise ForbiddenError(
            f"The request comes from a page of {shown(origin)}, and is for {shown(host)}: if that is a name of yours for this "
            f"server, write it into {HOSTS} in the folder lemica of ComfyUI's user directory, one name a line."
        )


def _is_own(name: str) -> bool:
    """Whether a name can only be one of this machine, or is one that the owner wrote down."""
    return _is_address(name) or name == "localhost" or name.endswith(".localhost") or name in _written()


def _is_here(origin: str, host: str | None) -> bool:
    """Whether a page's origin is where its request goes to, or a name that the owner wrote down."""
    scheme, _, rest = origin.partition("://")
    if scheme not in PORTS:  # "null" is such a one
        return False
    name, port = _parts(rest)
    own_name, own_port = _parts(host or "")
    if name == own_name and name:
        return own_port is None or own_port == (port or PORTS[scheme])
    return name in _written()


def _parts(host: str) -> tuple[str, int | None]:
    """The name and the port of a host; an empty name where it is none."""
    if not set(host).isdisjoint("@/?#\\"):
        return "", None
    try:
        parsed = urlsplit(f"//{host}")
        return (parsed.hostname or "").rstrip("."), parsed.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _only_loopback() -> bool:
    """Whether the server can be reached from this machine alone."""
    return all(
        name == "localhost" or _is_address(name) and ip_address(name).is_loopback
        for name in (part.strip() for part in args.listen.split(","))
    )


def _written() -> set[str]:
    """The names that the owner wrote down."""
    path = Path(folder_paths.get_user_directory()) / "lemica" / HOSTS
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = file.read(MAX_HOSTS).splitlines()
    return {line.strip().lower().rstrip(".") for line in lines} - {""}
