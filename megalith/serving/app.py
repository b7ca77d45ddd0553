"""The ASGI application: its routes, and what holds for every request."""

import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from megalith.console import note
from megalith.inference import Engine, LanguageModel
from megalith.serving.answering import Answering
from megalith.serving.engine_thread import EngineThread
from megalith.serving.errors import ApiError, engine_ended, stopping
from megalith.serving.exchange import Bodies, Exchange, GoneError
from megalith.serving.metrics import CONTENT_TYPE_LATEST, Metrics
from megalith.serving.security import check_host, check_key
from megalith.serving.settings import Settings

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class Service:
    """One model, one engine, and the routes under which they are asked."""

    def __init__(self, lm: LanguageModel, engine: Engine, settings: Settings) -> None:
        self.settings = settings
        self.engine = EngineThread(engine)
        self.metrics = Metrics(self.engine)
        self.bodies = Bodies(settings)
        self.answering = Answering(lm, self.engine, self.bodies, self.metrics, settings)
        self._context = lm.config.sequence_length
        self._created = int(time.time())
        get: tuple[tuple[str, Handler, bool], ...] = (
            ("/v1/models", self._models, True),
            ("/v1/models/{name:path}", self._model, True),
            ("/health", self._health, False),
            ("/metrics", self._metrics_text, True),
        )
        routes = [Route(path, Endpoint(self, path, "GET", handler, key=key)) for path, handler, key in get]
        post = {"/v1/completions": self.answering.completions, "/v1/chat/completions": self.answering.chat}
        routes += [Route(path, Endpoint(self, path, "POST", handler)) for path, handler in post.items()]
        routes += [Route(path, Endpoint(self, path, "GET", _file(*each), key=False)) for path, each in _PAGE.items()]
        routes += [Route("/{path:path}", Endpoint(self, "other", None, _unknown))]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.engine.start()
        yield
        self.engine.stop()

    async def _health(self, exchange: Exchange) -> None:
        if self.answering.stopping:
            raise stopping()
        if not self.engine.alive:
            raise engine_ended()
        await exchange.json({"status": "ok"})

    async def _models(self, exchange: Exchange) -> None:
        await exchange.json({"object": "list", "data": [self._described()]})

    async def _model(self, exchange: Exchange) -> None:
        self.answering.check_model(exchange.parameters["name"])
        await exchange.json(self._described())

    async def _metrics_text(self, exchange: Exchange) -> None:
        await exchange.whole(self.metrics.text(), CONTENT_TYPE_LATEST)

    def _described(self) -> dict[str, object]:
        return {
            "id": self.settings.name,
            "object": "model",
            "created": self._created,
            "owned_by": "megalith",
            "max_model_len": self._context,
        }


class Endpoint:
    """One route: who may ask, in which method; how it was answered is counted, and every error has OpenAI's form."""

    def __init__(self, service: Service, route: str, method: str | None, handler: Handler, *, key: bool = True) -> None:
        self._service = service
        self._route = route
        self._method = method
        self._handler = handler
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._service.settings)
        status = "abandoned"
        try:
            await self._answer(exchange)
            status = str(exchange.status)
        except GoneError:
            self._service.metrics.abandoned.inc()
        finally:
            self._service.metrics.answers.labels(self._route, status).inc()

    async def _answer(self, exchange: Exchange) -> None:
        settings = self._service.settings
        try:
            check_host(exchange.headers, settings.allowed_hosts)
            if self._key:
                check_key(exchange.headers, settings.api_key)
            allowed = (self._method, "HEAD") if self._method == "GET" else (self._method,)
            if self._method is not None and exchange.method not in allowed:
                raise ApiError(405, f"This route takes {self._method}.", code="method_not_allowed")
            await self._handler(exchange)
        except ApiError as error:
            await exchange.error(error)
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours ends one request, not the server
            note("megalith serve: a request has failed\n" + "".join(traceback.format_exception(error)))
            await exchange.error(
                ApiError(500, f"The server has failed ({type(error).__name__}).", code="server_failed")
            )


def _file(name: str, kind: str) -> Handler:
    content = (resources.files("megalith.serving") / name).read_bytes()

    async def handler(exchange: Exchange) -> None:
        await exchange.whole(content, f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    return handler


async def _unknown(exchange: Exchange) -> None:
    raise ApiError(404, "This route is unknown.", code="unknown_route")
