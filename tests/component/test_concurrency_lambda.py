"""The same service as a Lambda function: events of an Application Load Balancer in the documented shape."""

import base64
import json
import uuid

import pytest

from mediaflow.concurrency import aws_lambda

STREAMS = "/v1/users/ann/streams"


@pytest.fixture
def function(monkeypatch):
    """The handler, in an instance of the function of its own."""

    def start(**environ: str):
        for name, value in {"redis_url": f"memory://{uuid.uuid4().hex}", **environ}.items():
            monkeypatch.setenv("MEDIAFLOW_" + name.upper(), value)
        monkeypatch.setattr(aws_lambda, "_service", None)
        return lambda event: aws_lambda.handler(event, object())

    yield start
    if aws_lambda._service is not None:
        aws_lambda._service.close()


def event(
    method: str, path: str, body: str = "", *, several: bool = False, encoded: bool = False, headers=()
):
    """Return an event as "Lambda functions as targets" (Elastic Load Balancing) shows them."""
    given = [
        ("accept", "*/*"),
        ("host", "lambda-846800462-us-east-2.elb.amazonaws.com"),
        ("user-agent", "curl/7.54.0"),
        ("x-amzn-trace-id", "Root=1-5c536348-3d683b8b04734faae651f476"),
        ("x-forwarded-for", "72.12.164.125"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "http"),
        *headers,
    ]
    grouped: dict[str, list[str]] = {}
    for name, value in given:
        grouped.setdefault(name, []).append(value)
    arn = "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/lambda-279XGJDqGZ5rsrHC2Fjr/49e9d65c45c6791a"
    found = {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": method,
        "path": path,
        "body": base64.b64encode(body.encode()).decode() if encoded else body,
        "isBase64Encoded": encoded,
    }
    if several:
        return found | {"multiValueQueryStringParameters": {"a": ["1", "2"]}, "multiValueHeaders": grouped}
    # Without multi-value headers the balancer hands on the last value of each.
    single = {name: values[-1] for name, values in grouped.items()}
    return found | {"queryStringParameters": {"a": "2"}, "headers": single}


def start_event(path: str = STREAMS, device: str = "tv", *, headers=(), several=False, encoded=False, **more):
    body = json.dumps({"deviceId": device, **more})
    kind = ("content-type", "application/json")
    return event("POST", path, body, headers=[kind, *headers], several=several, encoded=encoded)


@pytest.mark.parametrize("several", [False, True])
def test_answers_have_the_documented_shape(function, several):
    answer = function()(start_event(several=several))
    assert answer.keys() == {
        *("isBase64Encoded", "statusCode", "statusDescription", "body"),
        "multiValueHeaders" if several else "headers",
    }
    assert (answer["statusCode"], answer["statusDescription"]) == (201, "201 Created")
    assert answer["isBase64Encoded"] is False
    json.dumps(answer)
    body = json.loads(answer["body"])
    headers = answer["multiValueHeaders" if several else "headers"]
    location = headers["Location"]
    assert (location[0] if several else location) == f"{STREAMS}/{body['streamId']}"
    assert all(isinstance(value, list if several else str) for value in headers.values())
    assert {
        "Date",
        "Expires",
        "Cache-Control",
        "Content-Type",
        "Access-Control-Allow-Origin",
    } <= headers.keys()


def test_a_stream_lives_through_start_heartbeat_takeover_and_stop(function):
    ask = function(stream_limit="1")
    first = ask(start_event(device="tv"))["headers"]["Location"]
    assert ask(event("PUT", first))["statusCode"] == 200
    assert ask(event("POST", first, "any", headers=[("content-type", "text/plain")]))["statusCode"] == 200
    refused = ask(start_event(device="phone"))
    assert (refused["statusCode"], refused["statusDescription"]) == (409, "409 Conflict")
    assert refused["headers"]["Content-Type"] == "application/problem+json"
    code = json.loads(refused["body"])["conflicts"][0]["terminationCode"]
    second = ask(start_event(device="phone", headers=[("x-terminate", code)]))["headers"]["Location"]
    ended = ask(event("PUT", first))
    assert ended["statusCode"] == 410
    assert json.loads(ended["body"])["terminatedBy"]["deviceId"] == "phone"
    listed = json.loads(ask(event("GET", STREAMS))["body"])
    assert [one["deviceId"] for one in listed["streams"]] == ["phone"]
    assert ask(event("POST", second + "/stop", "bye", encoded=True))["statusCode"] == 204
    gone = ask(event("DELETE", second))
    assert gone["statusCode"] == 410


def test_a_body_in_base64_is_read_and_a_broken_one_refused(function):
    ask = function()
    assert ask(start_event(encoded=True))["statusCode"] == 201
    broken = {**start_event(encoded=True), "body": "%%%"}
    assert ask(broken)["statusCode"] == 400
    assert ask({**start_event(), "body": None})["statusCode"] == 400
    assert ask({**start_event(), "body": " " * 70_000})["statusCode"] == 413


def test_repeated_headers_count_where_the_balancer_hands_them_on(function):
    ask = function(stream_limit="2")
    for device in ("tv", "phone"):
        ask(start_event(device=device))
    refused = json.loads(ask(start_event())["body"])
    codes = [("x-terminate", one["terminationCode"]) for one in refused["conflicts"]]
    answer = ask(start_event(device="tablet", several=True, headers=codes))
    assert json.loads(answer["body"])["active"] == 1


@pytest.mark.parametrize(
    ("written", "user"),
    [("a%2Fb", "a/b"), ("a+b", "a+b"), ("%7Bx%7D", "{x}"), ("%C3%A9", "é"), ("a%2520", "a%20")],
)
def test_users_are_decoded_once(function, written, user):
    ask = function()
    answer = ask(start_event(f"/v1/users/{written}/streams"))
    assert json.loads(answer["body"])["userId"] == user
    beat = ask(event("PUT", answer["headers"]["Location"]))
    assert json.loads(beat["body"])["userId"] == user


@pytest.mark.parametrize("user", ["", "%ff", "%zz", "x" * 257, "%00"])
def test_users_that_are_not_legal_are_refused(function, user):
    assert function()(start_event(f"/v1/users/{user}/streams"))["statusCode"] == 400


def test_a_preflight_and_what_is_not_there_are_answered_as_by_the_program(function):
    ask = function()
    preflight = ask(event("OPTIONS", STREAMS))
    assert preflight["statusCode"] == 204
    assert "X-Terminate" in preflight["headers"]["Access-Control-Allow-Headers"]
    assert preflight["body"] == ""
    assert ask(event("GET", "/nothing"))["statusCode"] == 404
    assert ask(event("PATCH", STREAMS))["headers"]["Allow"] == "GET, HEAD, OPTIONS, POST"
    head = ask(event("HEAD", STREAMS))
    assert (head["statusCode"], head["body"]) == (200, "")
    assert ask(event("GET", "/.well-known/jwks.json"))["statusCode"] == 200


def test_a_health_check_without_headers_of_its_own_is_answered(function):
    # The balancer's own checks carry hardly any header, and some none at all.
    check = {"requestContext": {"elb": {}}, "httpMethod": "GET", "path": "/healthz", "headers": None}
    answer = function()(check)
    assert answer["statusCode"] == 200


@pytest.mark.redis
def test_connections_are_kept_between_invocations_and_those_that_broke_meanwhile_do_no_harm(
    function, redis_server
):
    ask = function(redis_url=redis_server.url, on_store_down="deny")
    location = ask(start_event())["headers"]["Location"]

    def connections() -> int:
        stats = redis_server.command("INFO", "stats").decode()
        return int(next(line for line in stats.splitlines() if "total_connections" in line).split(":")[1])

    before = connections()
    for _ in range(5):
        assert ask(event("PUT", location))["statusCode"] == 200
    assert connections() == before + 1, "each invocation opened connections of its own"  # the one that counts
    # While a function is frozen its connections are closed by the other side.
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    assert ask(event("PUT", location))["statusCode"] == 200


def test_authentication_is_the_same(function):
    ask = function(api_token="open sesame")
    assert ask(start_event())["statusCode"] == 401
    assert ask(start_event(headers=[("Authorization", "Bearer open sesame")]))["statusCode"] == 201


def test_an_error_of_ours_is_a_problem_and_not_a_failed_invocation(function, monkeypatch):
    ask = function()
    ask(event("GET", STREAMS))

    async def broken(*_, **__):
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(aws_lambda._service._limiter, "list", broken)
    answer = ask(event("GET", STREAMS))
    assert answer["statusCode"] == 500
    assert "secret" not in answer["body"]
