"""The OpenAPI document that people download is the one that the service serves."""

import json
from pathlib import Path

from mediaflow.concurrency.described import kept_document

KEPT = Path(__file__).parents[2] / "config" / "concurrency.openapi.json"


def test_the_kept_document_is_the_one_that_is_served():
    assert KEPT.read_bytes() == kept_document(), (
        "config/concurrency.openapi.json is not what the service answers any more; write it anew with "
        "python -m mediaflow.concurrency.described > config/concurrency.openapi.json"
    )


def test_the_contract_is_in_it():
    found = json.loads(kept_document())
    assert found["openapi"].startswith("3.1.")
    told = {
        (method.upper(), path): set(operation["responses"])
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
        if path.startswith(("/v1", "/.well-known"))
    }
    stream = "/v1/users/{userId}/streams/{streamId}"
    assert told == {
        ("POST", "/v1/users/{userId}/streams"): {
            *{"201", "400", "401", "404", "408", "409", "413", "422", "429", "503"}
        },
        ("GET", "/v1/users/{userId}/streams"): {"200", "400", "401", "404", "503"},
        ("PUT", stream): {"200", "400", "401", "404", "410", "429", "503"},
        ("POST", stream): {"200", "400", "401", "404", "410", "429", "503"},
        ("DELETE", stream): {"204", "400", "401", "404", "410", "503"},
        ("POST", stream + "/stop"): {"204", "400", "404", "410", "503"},
        ("PUT", "/v1/users/{userId}/limits"): {"204", "400", "401", "408", "413", "503"},
        ("GET", "/.well-known/jwks.json"): {"200"},
    }
    assert found["paths"][stream + "/stop"]["post"]["security"] == []


def test_refusals_are_described_with_what_a_player_shows():
    schemas = json.loads(kept_document())["components"]["schemas"]
    assert {"conflicts", "advice", "limit", "active"} <= set(schemas["Refusal"]["required"])
    assert "terminationCode" in schemas["Conflict"]["properties"]
    assert "terminatedBy" in schemas["Ended"]["required"]
