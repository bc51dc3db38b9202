"""Who may use the routes under /sdapi: everybody, or those that --api-auth names."""

from secrets import compare_digest
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from sd_prism.errors import PrismError

NOT_KNOWN = 401


def users(text: str | None) -> dict[str, str]:
    """Passwords by name, from "user:password,user2:password2"."""
    found = {}
    for part in (text or "").split(",") if text else []:
        user, colon, password = part.strip().partition(":")
        if not (user and colon and password):
            raise PrismError("--api-auth must look like user:password, or user:password,user2:password2")
        if not part.isascii():  # what browsers and FastAPI agree on
            raise PrismError("--api-auth must hold plain letters only: no accents, umlauts or signs beyond ASCII")
        found[user] = password
    return found


def guards() -> list[Any]:
    """What FastAPI has to check before a route is called."""
    from modules import shared

    known = users(shared.cmd_opts.api_auth)
    if not known:
        return []

    def check(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
        password = known.get(credentials.username, "")
        same = compare_digest(credentials.password.encode(), password.encode())
        if not (same and password):
            raise HTTPException(NOT_KNOWN, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return [Depends(check)]
