"""deploy/: what the files name exists: settings of the command, paths of the server, metrics."""

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def check(verb, *words):
    """Check that the settings of a command exist."""
    there = {*yaml.safe_load((ROOT / f"conf/{verb}.yaml").read_text())}
    named = {word.partition("=")[0] for word in words}
    assert named
    assert named <= there, (verb, named - there)
    assert all(re.fullmatch(r"\w+=\S+", word) for word in words)


def test_the_container_starts_the_command_with_settings_that_there_are():
    text = (DEPLOY / "Containerfile").read_text()
    lines = dict(line.split(" ", 1) for line in text.splitlines() if re.match("(ENTRYPOINT|CMD|USER|EXPOSE) ", line))
    command, *words = [*json.loads(lines["ENTRYPOINT"]), *json.loads(lines["CMD"])]
    assert command == "recsys-dl"
    check(*words)
    assert f"port={lines['EXPOSE']}" in words
    assert lines["USER"] != "root"
    declared = (ROOT / "pyproject.toml").read_text()
    for one in re.findall(r"EXTRA=([\w,]+)", text):
        assert all(re.search(rf"^{extra} = ", declared, re.MULTILINE) for extra in one.split(","))
    for source in re.findall(r"-c (\S+)", text):
        assert (ROOT / source).is_file()


@pytest.mark.parametrize("unit", ["recsys-dl.service", "recsys-dl-monitor.service"])
def test_units_start_the_command_with_settings_that_there_are(unit):
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read_string((DEPLOY / unit).read_text())
    program, *words = shlex.split(parser["Service"]["ExecStart"])
    assert program.endswith("/recsys-dl")
    check(*words)


def test_the_manifest_fits_together():
    pytest.importorskip("prometheus_client", reason="the server's paths need it: pip install '.[serve]'")
    from recsys_dl.serving.guard import OPEN

    by_kind = {}
    for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        assert {"apiVersion", "kind", "metadata", "spec"} <= {*part}
        by_kind.setdefault(part["kind"], []).append(part)
    (deployment,), (service,) = by_kind["Deployment"], by_kind["Service"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    pod = template["spec"]
    (container,) = pod["containers"]
    check("serve", *container["args"])
    assert "port=8000" in container["args"]
    assert container["ports"] == [{"name": service["spec"]["ports"][0]["targetPort"], "containerPort": 8000}]
    probes = {container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes <= {*OPEN}  # answered without a token
    volumes = {one["name"]: one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == {*volumes}
    assert {*volumes.values()} == {one["metadata"]["name"] for one in by_kind["PersistentVolumeClaim"]}


def test_every_metric_of_the_dashboard_is_one_of_the_server():
    client = pytest.importorskip("prometheus_client", reason="the metrics need it: pip install '.[serve]'")
    from recsys_dl.serving.figures import Figures

    figures = Figures()
    figures.requests.labels("/recommend", "200").inc()
    figures.seconds.labels("/recommend").observe(0.1)
    figures.reloads.labels("done").inc()
    there = {}
    for line in client.generate_latest(figures.registry).decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"(\w+)(?:{(.*)})?", line).groups()
            there.setdefault(name, set()).update(re.findall(r"(\w+)=", labels or ""))
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating"} <= {*board}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variables = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval", "__range"}
    used = set()
    for panel in board["panels"]:
        assert {"title", "type", "gridPos", "targets"} <= {*panel}
        for target in panel["targets"]:
            expression = target["expr"]
            assert expression.count("(") == expression.count(")")
            found = re.findall(r"(recsys_\w+)(?:{(.*?)})?", expression)
            assert found
            for name, labels in found:
                assert name in there
                used.add(name)
                assert {*re.findall(r"(\w+)=", labels)} <= there[name] | {"job", "instance"}
            assert {*re.findall(r"\$(\w+)", expression)} <= variables
    ends = "_(total|bucket|sum|count|created)$"
    assert {re.sub(ends, "", name) for name in there} == {re.sub(ends, "", name) for name in used}  # each is shown
