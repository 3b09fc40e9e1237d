"""The description of the service, and requests made from it by schemathesis."""

import json

import httpx
import pytest


def test_the_description_has_an_example_for_every_body(served):
    description = httpx.get(f"{served}/openapi.json").json()
    posts = {path: item["post"] for path, item in description["paths"].items() if "post" in item}
    assert set(posts) == {"/v1/fill", "/v1/generate", "/v1/score", "/v1/embed", "/v1/completions"}
    for path, post in posts.items():
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        (example,) = description["components"]["schemas"][name]["examples"]
        assert httpx.post(f"{served}{path}", json=example).status_code == 200, path
        assert {"400", "401", "408", "413", "422", "429", "500"} <= set(post["responses"])
    assert "HTTPValidationError" not in json.dumps(description["paths"])


@pytest.mark.slow
def test_requests_made_from_the_description_are_answered_as_it_says(served):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{served}/openapi.json")
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(
            max_examples=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            database=None,
        )
        def check(case):
            # a value of the right form may still be refused, such as an order that does not exist
            case.call_and_validate(base_url=served, timeout=60, excluded_checks=[positive_data_acceptance])

        check()
