"""The image of ``Containerfile``, without building it: its sources exist, and its command is one of ours."""

import json
import re
import shlex
import tomllib

from tests.blocks import ROOT

LINES = [
    line.split(" ", 1)
    for line in (ROOT / "Containerfile").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def arguments(name):
    return [rest for instruction, rest in LINES if instruction == name]


def test_instructions_are_known_and_in_order():
    names = [instruction for instruction, _ in LINES]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert names[0] == "FROM" and set(names) <= known and names.count("ENTRYPOINT") == 1
    assert names.index("COPY") < names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT")


def test_what_is_copied_exists_and_suffices_to_build():
    copied = set()
    for rest in arguments("COPY"):
        *sources, _ = shlex.split(rest)
        assert all((ROOT / source).exists() for source in sources), sources
        copied |= set(sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "src", project["readme"]} <= copied
    (install,) = arguments("RUN")
    extra = re.search(r"'\.\[(\w+)\]'", install)
    constraint = re.search(r"--constraint (\S+)", install)
    assert extra and extra[1] in project["optional-dependencies"] and constraint and constraint[1] in copied
    python = re.search(r":(\d+\.\d+)-slim$", arguments("FROM")[0])
    least = re.search(r">=\s*(\d+)\.(\d+)", project["requires-python"])
    assert python and least and tuple(map(int, python[1].split("."))) >= tuple(map(int, least.groups()))


def test_the_command_serves_on_the_exposed_port_and_needs_a_key(unmask, trained, monkeypatch):
    command = json.loads(arguments("ENTRYPOINT")[0])
    assert command[:3] == ["unmask", "serve", "/model"]
    seen = {}
    monkeypatch.setattr("unmask.serve.server.run_server", lambda app, settings, ready: seen.update(settings=settings))
    monkeypatch.delenv("UNMASK_SERVE_KEYS", raising=False)
    refused = unmask("serve", trained, *command[3:])
    assert refused.code == 1 and "UNMASK_SERVE_KEYS" in refused.err and not seen
    monkeypatch.setenv("UNMASK_SERVE_KEYS", "a-key-of-the-test-1234")
    accepted = unmask("serve", trained, *command[3:])
    assert accepted.code == 0, accepted.err
    settings = seen["settings"]
    assert (settings.host, str(settings.port)) == ("0.0.0.0", arguments("EXPOSE")[0])
    assert f":{settings.port}/readyz" in arguments("HEALTHCHECK")[0] and len(settings.keys) == 1


def test_the_health_check_is_a_program():
    _, program = arguments("HEALTHCHECK")[0].split(" ", 1)
    words = shlex.split(program)
    assert words[:2] == ["python", "-c"]
    compile(words[2], "healthcheck", "exec")
