"""What `/openapi.json` says of an answer, and whether it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from creditsd.http.api_document import FILE
from tests.http.asking import Answer

METHODS = {"get", "post", "put", "delete", "patch"}
ELSEWHERE = {405, 417, 431}  # of what no operation describes


class Described:
    """The document, with every object closed: what it does not name must not be answered either."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = json.loads(FILE.read_text())
        self._components = closed(self.document["components"])

    @property
    def operations(self) -> set[tuple[str, str]]:
        """Each method and path."""
        return {
            (method.upper(), path)
            for path, operations in self.document["paths"].items()
            for method in operations.keys() & METHODS
        }

    def fits(self, schema: str, value: Any) -> None:
        """See that a value is as a schema says."""
        self._validate({"$ref": f"#/components/schemas/{schema}"}, value)

    def holds(self, answer: Answer, path: str, method: str = "GET") -> None:
        """See that an answer's status is described, and that its body and headers are as it says."""
        responses = self.document["paths"][path][method.lower()]["responses"]
        listed = "default" if answer.status in ELSEWHERE else str(answer.status)
        assert listed in responses, (method, path, answer)
        response = self.followed(responses[listed])
        for name, header in response.get("headers", {}).items():
            described = self.followed(header)
            assert name in answer.headers or not described.get("required"), (name, answer)
            if name in answer.headers:
                self._validate(described["schema"], answer.headers[name])
        if answer.status == 304:
            return
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in response["content"], (kind, path)
        self._validate(response["content"][kind]["schema"], answer.body)

    def followed(self, what: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a part of the document refers to, or itself."""
        if "$ref" not in what:
            return what
        _, _, kind, name = what["$ref"].split("/")
        found: Mapping[str, Any] = self.document["components"][kind][name]
        return found

    def _validate(self, schema: Mapping[str, Any], value: Any) -> None:
        whole = {**closed(schema), "components": self._components}
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no other properties than those it names, unless it says so."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    shut = {name: closed(each) for name, each in schema.items()}
    return {"additionalProperties": False, **shut} if isinstance(schema.get("properties"), Mapping) else shut
