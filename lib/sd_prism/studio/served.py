"""The app that is served. Reload UI replaces it as a whole, so that no route is there twice and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI


class _Life:
    """One app from its startup to its shutdown; both happen in one task, as their context managers demand."""

    def __init__(self, app: FastAPI) -> None:
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._run(app))

    async def _run(self, app: FastAPI) -> None:
        try:
            async with app.router.lifespan_context(app):
                self._started.set_result(None)
                await self._over.wait()
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def begin(self) -> None:
        """Wait for the startup; raises what it raises."""
        await self._started

    async def end(self) -> None:
        """Shut down."""
        self._over.set()
        await self._task


class Served:
    """An ASGI app in front of the one that `make` gives."""

    def __init__(self, make: Callable[[], FastAPI]) -> None:
        self._make = make
        self.app = make()
        self._life: _Life | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.app(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        self._life = _Life(self.app)
        await self._life.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._life.end()
        self._life = self._loop = None
        await send({"type": "lifespan.shutdown.complete"})

    def rebuild(self) -> None:
        """Make the app anew and serve that from now on; not to be called in the event loop's thread."""
        app = self._make()
        if self._loop is None:
            self.app = app
        else:
            asyncio.run_coroutine_threadsafe(self._replace(app), self._loop).result()

    async def _replace(self, app: FastAPI) -> None:
        life, self._life = self._life, _Life(app)
        await self._life.begin()
        self.app = app
        if life is not None:
            await life.end()
