"""What a command works on: a running instance found by its directory, else what the settings name (contract 1)."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.instance_files import Endpoints, read_endpoints
from gateway.settings import Settings, clock_of, load
from schemas.clock import Clock, ScaledClock, SystemClock
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http import Answer, fetch
from sinks.settings import KafkaSettings

DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="DERMS_DATA", help="Directory of a running instance (derms up); else the settings are used.")
]


@dataclass
class Target:
    """Addresses and clock of the system a command speaks to."""

    data: Path | None

    @cached_property
    def settings(self) -> Settings:
        """The settings from the environment."""
        return load()

    @cached_property
    def endpoints(self) -> Endpoints | None:
        """The running instance's endpoints, if there is one in the directory."""
        directory = self.data or self.settings.data
        return None if directory is None else read_endpoints(directory)

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach Kafka."""
        if self.endpoints is None:
            if self.data is not None and "bootstrap" not in self.settings.kafka.model_fields_set:
                raise Misconfigured(
                    "--data", f"no instance is running in {self.data}", "start one with derms up, or set DERMS_KAFKA__BOOTSTRAP"
                )
            return self.settings.kafka
        found = self.endpoints
        changes = {"bootstrap": found.kafka_bootstrap, "embedded": found.kafka_embedded, "topic_prefix": found.topic_prefix}
        return self.settings.kafka.model_copy(update=changes | ({"replication": 1, "min_insync": 1} if found.kafka_embedded else {}))

    @property
    def clock(self) -> Clock:
        """The instance's clock."""
        if self.endpoints is None:
            return clock_of(self.settings)
        found = self.endpoints.clock
        if found["speed"] == 1 and found["origin"] == found["started"]:
            return SystemClock()
        return ScaledClock(datetime.fromisoformat(found["origin"]), datetime.fromisoformat(found["started"]), found["speed"])

    @property
    def history_url(self) -> str:
        """Where the history answers over HTTP."""
        url = self.endpoints.clickhouse_url if self.endpoints else self.settings.clickhouse.url
        if not url:
            raise Misconfigured(
                "DERMS_CLICKHOUSE__URL", "is not set and no instance is running", "start derms up, or for example http://clickhouse:8123"
            )
        return url

    def operations(self, method: str, path: str, body: Any = None) -> Any:
        """Call the operations API as an operator and return its JSON; blocks until it answers.

        Raises Refused with the API's words, Unavailable where nothing answers, Misconfigured where neither an instance
        runs nor the settings name an operator's token.
        """
        url, token = self._operator()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        answer = self.fetch(method, f"{url}/api/v1{path}", headers=headers, content=content)
        try:
            found = json.loads(answer.body) if answer.body else None
        except ValueError:
            raise Unavailable(f"the operations API answered {answer.status} without JSON") from None
        if answer.status >= 400:
            raise Refused(answer.status, _words(found))
        return found

    def fetch(self, method: str, url: str, **options: Any) -> Answer:
        """`sinks.http.fetch` from a listener of ours, which may show a certificate of our own authority.

        Raises Misconfigured where the file of that authority cannot be used.
        """
        named = self.settings.gateway.operations_ca_file
        ca_file = str(named) if named is not None else (self.endpoints.operations_ca_file or None if self.endpoints else None)
        try:
            return fetch(method, url, ca_file=ca_file, **options)
        except Misconfigured as error:
            raise Misconfigured("DERMS_GATEWAY__OPERATIONS_CA_FILE", error.problem, error.cure) from None
        except Unavailable as error:
            if ca_file is None and url.startswith("https:") and "certificate" in error.words:
                cure = "name the PEM file of the authority that signed it"
                raise Misconfigured("DERMS_GATEWAY__OPERATIONS_CA_FILE", f"is not set, and {error.words}", cure) from None
            raise

    def _operator(self) -> tuple[str, str]:
        """Where the operations API is, and the token to speak to it with: the instance's, else the settings'."""
        if self.endpoints is not None:
            return self.endpoints.operations_url, self.endpoints.operator_token()
        token, url = self.settings.operator_token, self.settings.gateway.operations_url
        if token is not None:
            return (url or self.settings.gateway.local_operations_url).rstrip("/"), token.get_secret_value().strip()
        if self.data is not None and url is None:
            raise Misconfigured("--data", "no running instance found", "start one with derms up --data DIR and name the same DIR")
        cure = "start one with derms up --data DIR and name the same DIR, or name a file with a token made by derms operator add"
        raise Misconfigured("DERMS_OPERATOR_TOKEN_FILE", "is not set and no running instance was found", cure)


def _words(problem: Any) -> str:
    if not isinstance(problem, dict):
        return "refused without words"
    words = str(problem.get("detail") or problem.get("title") or "refused")
    for error in problem.get("errors", []):
        more = f"{error.get('path', '')}: {error.get('message', '')}"
        words += "" if more in words else f"; {more}"
    return words
