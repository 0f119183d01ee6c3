"""``/openapi.json``: every endpoint in, with the structs that it reads and writes; an OpenAPI 3.1 document out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from videolm.server import replies
from videolm.server.errors import ErrorBody
from videolm.server.file_store import FileObject
from videolm.server.files import DeletedFile
from videolm.server.inspect import Inspection
from videolm.server.schema import ChatRequest, InspectRequest
from videolm.server.uploads import PURPOSES

_JSON = "application/json"
_REF = "#/components/schemas/{name}"
_ANYWHERE = (400, 401, 431, 500)
_OF_MODELS = (404, 408, 413, 429, 503, 504)
"""Errors of whatever reads a body and makes the model work."""

__all__ = ["OPERATIONS", "Operation", "openapi_document", "openapi_route"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    body: type | None = None
    form: Mapping[str, Any] | None = None
    """The schema of a multipart form, in the place of ``body``."""
    answers: Mapping[str, type | None] = field(default_factory=dict)
    """What comes with status 200, by content type; None for plain text."""
    also: Mapping[int, type] = field(default_factory=dict)
    """Answers with another status that are no errors."""
    errors: tuple[int, ...] = ()
    is_open: bool = False
    """Whether it needs no key."""


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="createChatCompletion",
        summary="Answer the last message of a conversation; as server-sent events of chunks where stream is true",
        body=ChatRequest,
        answers={_JSON: replies.Completion, "text/event-stream": replies.Chunk},
        errors=_OF_MODELS,
    ),
    Operation(
        method="post",
        path="/v1/inspect",
        name="inspectMedia",
        summary="Show what the model would see of media: the frames that are taken, and a sheet of them",
        body=InspectRequest,
        answers={_JSON: Inspection},
        errors=_OF_MODELS,
    ),
    Operation(
        method="post",
        path="/v1/files",
        name="createFile",
        summary="Upload a video or a picture, to name it by its id; it is removed after a time",
        form={
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "purpose": {"type": "string", "enum": list(PURPOSES), "default": "user_data"},
            },
        },
        answers={_JSON: FileObject},
        errors=(408, 413, 429, 507),
    ),
    Operation(
        method="get",
        path="/v1/files/{file_id}",
        name="retrieveFile",
        summary="Tell about an upload",
        answers={_JSON: FileObject},
        errors=(404,),
    ),
    Operation(
        method="delete",
        path="/v1/files/{file_id}",
        name="deleteFile",
        summary="Remove an upload",
        answers={_JSON: DeletedFile},
        errors=(404,),
    ),
    Operation(
        method="get",
        path="/v1/models",
        name="listModels",
        summary="List the one model",
        answers={_JSON: replies.ModelList},
    ),
    Operation(
        method="get",
        path="/v1/models/{name}",
        name="retrieveModel",
        summary="Tell about the model of this name",
        answers={_JSON: replies.ModelCard},
        errors=(404,),
    ),
    Operation(
        method="get",
        path="/health",
        name="isReady",
        summary="Whether requests are taken",
        answers={_JSON: replies.Health},
        also={503: replies.Health},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/health/live",
        name="isLive",
        summary="Whether the server lives",
        answers={_JSON: replies.Health},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        name="getMetrics",
        summary="Counts and times for Prometheus",
        answers={"text/plain": None},
    ),
    Operation(
        method="get",
        path="/openapi.json",
        name="getOpenApi",
        summary="This document",
        answers={_JSON: None},
    ),
    Operation(method="get", path="/", name="getPage", summary="The page", answers={"text/html": None}, is_open=True),
)


def openapi_route(model: str) -> Route:
    """``GET /openapi.json``."""
    body = msgspec.json.encode(openapi_document(model))

    async def document(request: Request) -> Response:
        return Response(body, media_type=_JSON)

    return Route("/openapi.json", document, methods=["GET"])


def openapi_document(model: str) -> dict[str, Any]:
    """The whole document.

    Args:
        model: The only name that requests may give.
    """
    kinds: list[type] = [ErrorBody]
    for each in OPERATIONS:
        kinds += [kind for kind in (each.body, *each.answers.values(), *each.also.values()) if kind is not None]
    _, components = msgspec.json.schema_components(list(dict.fromkeys(kinds)), ref_template=_REF)
    components["ChatRequest"]["properties"]["model"]["enum"] = [model]
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "videolm",
            "summary": "Ask questions about videos and pictures, as OpenAI's API takes them.",
            "version": version("videolm"),
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        # A server that was started without a key lets everybody in.
        "security": [{"key": []}, {}],
    }


def _operation(each: Operation) -> dict[str, Any]:
    errors = sorted({*_ANYWHERE, *each.errors} - {*each.also} - ({401} if each.is_open else set()))
    told: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "responses": {
            "200": {"description": "OK", "content": {kind: _schema(what) for kind, what in each.answers.items()}},
            **{str(status): _answer(status, kind) for status, kind in each.also.items()},
            **{str(status): _answer(status, ErrorBody) for status in errors},
        },
    }
    if each.is_open:
        told["security"] = []
    if parameters := _parameters(each.path):
        told["parameters"] = parameters
    if each.body is not None:
        told["requestBody"] = {"required": True, "content": {_JSON: _schema(each.body)}}
    elif each.form is not None:
        told["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": dict(each.form)}}}
    return told


def _parameters(path: str) -> Sequence[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _answer(status: int, kind: type) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {_JSON: _schema(kind)}}


def _schema(kind: type | None) -> dict[str, Any]:
    if kind is None:
        return {"schema": {}}
    return {"schema": {"$ref": _REF.format(name=kind.__name__)}}
