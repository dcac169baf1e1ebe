"""The manifests run our programs with what they accept, probe what they answer, and fit together."""

import re
from pathlib import Path
from typing import Any

import pytest
from harness.deployment import CONFIG, document, documents, longest_stop_s, settings_of

from mediaflow.settings import Settings

BASE = CONFIG / "kubernetes" / "base"
AUTOSCALING = CONFIG / "kubernetes" / "autoscaling"
OVERLAYS = (BASE, AUTOSCALING)

IMAGE_ENVIRONMENT = {"MEDIAFLOW_HOST": "0.0.0.0", "MEDIAFLOW_PORT": "8080"}
PRETENDED = {"metadata.name": "mediaflow-worker-5d4f-x2x7", "status.podIP": "10.1.2.3"}


def resources(kind: str) -> list[dict[str, Any]]:
    return [
        found
        for folder in OVERLAYS
        for name in document(folder / "kustomization.yaml")["resources"]
        if name.endswith(".yaml")
        for found in documents(folder / name)
        if found["kind"] == kind
    ]


DEPLOYMENTS = {found["metadata"]["name"]: found for found in resources("Deployment")}
NAMES = sorted(DEPLOYMENTS)


def pod_of(name: str) -> dict[str, Any]:
    return DEPLOYMENTS[name]["spec"]["template"]["spec"]


def container_of(name: str) -> dict[str, Any]:
    (found,) = pod_of(name)["containers"]
    return found


def environment_of(name: str) -> dict[str, str]:
    """Return the variables of a container as the kubelet would make them: a variable's own value wins."""
    environ = dict(document(BASE / "secret.example.yaml")["stringData"])
    own: dict[str, str] = {}
    for entry in container_of(name)["env"]:
        value = entry.get("value") or PRETENDED[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        own[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda found: own[found[1]], value)
    return IMAGE_ENVIRONMENT | environ | own


def settings_of_pod(name: str) -> Settings:
    environ = environment_of(name)
    mounted = {mount["name"]: Path(mount["mountPath"]) for mount in container_of(name)["volumeMounts"]}
    assert Path(environ.pop("MEDIAFLOW_CONFIG")) == mounted["settings"] / "mediaflow.toml"
    return settings_of(container_of(name)["args"], environ, BASE / "mediaflow.toml")


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


def labels_of(name: str) -> dict[str, str]:
    return DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]


def selected(selector: dict[str, Any]) -> list[str]:
    return [name for name in NAMES if selects(selector, labels_of(name))]


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_each_file_is_in_its_kustomization_or_says_that_it_is_not(folder: Path) -> None:
    kustomization = document(folder / "kustomization.yaml")
    listed = {name for name in kustomization["resources"] if name.endswith(".yaml")}
    listed |= {file for made in kustomization.get("configMapGenerator", []) for file in made["files"]}
    by_hand = {"kustomization.yaml", "secret.example.yaml", "prometheus-adapter.yaml"}
    assert listed == {path.name for path in folder.iterdir()} - by_hand


@pytest.mark.parametrize("name", NAMES)
def test_each_pod_starts_with_settings_that_agree_and_has_the_time_to_drain(name: str) -> None:
    settings = settings_of_pod(name)
    pause_s = container_of(name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace_s = pod_of(name)["terminationGracePeriodSeconds"]
    if container_of(name)["args"][0] == "worker":
        assert grace_s > longest_stop_s(settings)
    else:  # nothing to drain; the drain's own patience is for workers
        assert grace_s > pause_s + longest_stop_s(settings) - settings.drain_timeout
    assert settings.port == container_of(name)["ports"][0]["containerPort"]
    assert settings.api_token


def test_an_instance_is_named_as_its_pod_and_reached_at_its_pods_address() -> None:
    settings = settings_of_pod("mediaflow-worker")
    assert settings.instance_id == PRETENDED["metadata.name"]
    assert settings.advertise == f"{PRETENDED['status.podIP']}:{settings.port}"


@pytest.mark.parametrize("name", NAMES)
def test_no_variable_comes_from_the_names_of_services(name: str) -> None:
    assert pod_of(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_is_not_killed_because_redis_is_away(name: str) -> None:
    container = container_of(name)
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    patience_s = container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"]
    assert patience_s > settings_of_pod(name).lease_ttl


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_is_ready_when_it_can_do_its_work(name: str) -> None:
    ready = container_of(name)["readinessProbe"]["httpGet"]["path"]
    started = container_of(name)["startupProbe"]["httpGet"]["path"]
    if name == "mediaflow-concurrency":  # allows streams uncounted while Redis is away, if it is asked
        assert settings_of_pod(name).on_store_down == "allow"
        assert (started, ready) == ("/readyz", "/healthz")
    else:
        assert (started, ready) == ("/healthz", "/readyz")


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_meets_what_its_namespace_enforces(name: str) -> None:
    (namespace,) = resources("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, container = pod_of(name)["securityContext"], container_of(name)["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert f"\nUSER {pod['runAsUser']}:{pod['runAsGroup']}\n" in (CONFIG / "docker/Dockerfile").read_text()
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_asks_for_what_it_takes_and_is_not_held_back_by_a_quota(name: str) -> None:
    wanted = container_of(name)["resources"]
    assert wanted["requests"].keys() == {"cpu", "memory"}
    assert wanted["limits"].keys() == {"memory"}


@pytest.mark.parametrize("name", NAMES)
def test_what_carries_the_names_of_a_program_means_that_program(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert selected(deployment["spec"]["selector"]) == [name]
    (budget,) = [found for found in resources("PodDisruptionBudget") if found["metadata"]["name"] == name]
    assert selected(budget["spec"]["selector"]) == [name]
    assert budget["spec"]["maxUnavailable"] < deployment["spec"]["replicas"]
    (spread,) = pod_of(name)["topologySpreadConstraints"]
    assert selected(spread["labelSelector"]) == [name]


def test_services_lead_to_balancers_and_concurrency_services_which_wait_until_nobody_is_sent_to_them() -> (
    None
):
    fronts = {found["metadata"]["name"]: found["spec"] for found in resources("Service")}
    assert fronts.keys() == {"mediaflow-loadbalancer", "mediaflow-concurrency"}
    for name, front in fronts.items():
        assert selected({"matchLabels": front["selector"]}) == [name]
        assert front["ports"][0]["targetPort"] == container_of(name)["ports"][0]["name"]
    assert {name for name in NAMES if "preStop" in container_of(name).get("lifecycle", {})} == fronts.keys()


def test_only_balancers_and_watchdogs_reach_an_instance() -> None:
    def callers(policy: dict[str, Any]) -> list[str]:
        return [
            name
            for rule in policy["spec"].get("ingress", [])
            for source in rule.get("from", [{"podSelector": {}}])
            if "podSelector" in source
            for name in selected(source["podSelector"])
        ]

    policies = resources("NetworkPolicy")
    assert any(selected(policy["spec"]["podSelector"]) == NAMES for policy in policies)
    reaching = {
        name: sorted(
            caller
            for policy in policies
            if name in selected(policy["spec"]["podSelector"])
            for caller in callers(policy)
        )
        for name in NAMES
    }
    assert reaching["mediaflow-worker"] == ["mediaflow-loadbalancer", "mediaflow-watchdog"]
    assert reaching["mediaflow-watchdog"] == []
    assert reaching["mediaflow-loadbalancer"] == reaching["mediaflow-concurrency"] == NAMES


def test_the_autoscaler_scales_the_workers_by_the_metric_that_the_adapter_makes() -> None:
    (scaler,) = resources("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "mediaflow-worker"
    (rule,) = document(AUTOSCALING / "prometheus-adapter.yaml")["rules"]["external"]
    (metric,) = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    assert int(metric["external"]["target"]["averageValue"]) < settings_of_pod("mediaflow-worker").slots
    (patch,) = document(AUTOSCALING / "kustomization.yaml")["patches"]
    assert patch["target"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]


def test_metrics_are_read_where_they_are_with_the_token_of_the_secret() -> None:
    (monitor,) = resources("PodMonitor")
    assert selected(monitor["spec"]["selector"]) == NAMES
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {container_of(name)["ports"][0]["name"] for name in NAMES} == {endpoint["port"]}
    secret = document(BASE / "secret.example.yaml")
    assert endpoint["authorization"]["credentials"]["name"] == secret["metadata"]["name"]
    assert endpoint["authorization"]["credentials"]["key"] in secret["stringData"]
    for name in NAMES:
        assert container_of(name)["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
