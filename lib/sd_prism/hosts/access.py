"""Who may use the routes: reading whoever has the webui's page, writing whoever may use the webui's own API."""

from __future__ import annotations

from secrets import compare_digest
from types import MappingProxyType

from fastapi import HTTPException, Request
from fastapi.security import HTTPBasic
from modules import shared

from .routes import Refused


class NotAllowed(Refused):
    """A request that this webui takes from nobody."""

    status = 403


class NotKnown(Refused):
    """A request without the name and password of a user."""

    status = 401
    headers = MappingProxyType({"WWW-Authenticate": "Basic"})


class NotJsonType(Refused):
    """A request that the browser would send for any other site's page."""

    status = 415


async def check_page(request: Request) -> None:
    """Raises Refused for a request that must not read what only users of the page may see."""
    if not _page_has_password() or _has_logged_in(request):
        return
    users = _api_users()
    if not (users and await _is_known(request, users)):
        raise NotKnown("The webui's page has a password; log in there, or send one of --api-auth by HTTP Basic")


async def check(request: Request) -> None:
    """Raises Refused for a request that must not write."""
    options = shared.cmd_opts
    if not (options.api or getattr(options, "nowebui", False)):
        raise NotAllowed("Files are written over HTTP only where the webui was started with --api; add it")
    if users := _api_users():
        if not await _is_known(request, users):
            raise NotKnown("Incorrect username or password; send one of --api-auth by HTTP Basic")
    elif _page_has_password():
        raise NotAllowed("The webui's page has a password, its API has none; start it with --api-auth user:password")
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotJsonType(f'Content-Type is "{kind[:40]}"; send application/json')


def _page_has_password() -> bool:
    """Whether the webui's page asks for one; SD.Next names these options in its own way."""
    return any(
        getattr(shared.cmd_opts, name, None) for name in ("gradio_auth", "gradio_auth_path", "auth", "auth_file")
    )


def _api_users() -> str:
    """Those of the webui's API, "user:password,user2:password2"; SD.Next's are those of its page."""
    return str(getattr(shared.cmd_opts, "api_auth", None) or getattr(shared.cmd_opts, "auth", None) or "")


def _has_logged_in(request: Request) -> bool:
    """Whether the browser has a cookie that the webui's page gave to a user of its own."""
    users = getattr(request.app, "tokens", {})
    return any(name.startswith("access-token") and value in users for name, value in request.cookies.items())


async def _is_known(request: Request, users: str) -> bool:
    """Whether the request names one of "user:password,user2:password2"."""
    try:
        given = await HTTPBasic(auto_error=False)(request)
    except HTTPException:  # cannot be read
        return False
    if given is None:
        return False
    named = f"{given.username}:{given.password}".encode()
    return any(compare_digest(named, one.strip().encode()) for one in users.split(","))
