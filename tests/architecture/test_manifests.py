"""The Kubernetes manifests against what the services take."""

import importlib
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.kit.config import ConfigError, Key, describe, load
from services.kit.peers import peer_of
from services.kit.tls import Certificates, TlsConfig
from services.kit.workloads import TRUST_DOMAIN, spiffe_id

SERVICES = ("datashare", "scoring", "gateway")
# Of the environment, whatever else a key's name is part of.
VARIABLE = re.compile(r"\bPUHUI_(?P<section>[A-Z]+)_[A-Z0-9_]+")


def config_of(service: str) -> Any:
    main = importlib.import_module(f"services.{service}.main")
    return getattr(main, f"{service.capitalize()}Config")


def keys(service: str) -> dict[str, Key]:
    return {key.variable: key for key in describe(config_of(service), service)}


FILE = re.compile(r"(?P<folder>/etc/puhui/[a-z-]+)/(?P<name>[a-z-]+\.[a-z]+)")
MOUNT = re.compile(r"- name: (?P<volume>\S+)\n +mountPath: (?P<folder>\S+)\n")
VOLUME = re.compile(
    r"- name: (?P<volume>\S+)\n +(secret:\n +secretName|configMap:\n +name): (?P<source>\S+)\n"
)


def files(k8s: Path) -> list[Path]:
    return [path for path in k8s.rglob("*") if path.suffix in (".yaml", ".env")]


def settings(k8s: Path, service: str) -> dict[str, str]:
    """Return what the ConfigMap of a service sets."""
    lines = (k8s / "base" / service / "config.env").read_text().split()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def k8s(checkout: Path) -> Path:
    return checkout / "k8s"


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_a_key_of_its_service(k8s: Path, service: str) -> None:
    named = {
        match[0]
        for path in files(k8s)
        for match in VARIABLE.finditer(path.read_text())
        if match["section"] == service.upper()
    }
    assert named - keys(service).keys() == set()
    assert {variable for variable, key in keys(service).items() if key.default is None} <= named


def test_no_variable_is_of_no_service(k8s: Path) -> None:
    sections = {
        match["section"] for path in files(k8s) for match in VARIABLE.finditer(path.read_text())
    }
    assert sections == {service.upper() for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_load_what_its_config_map_sets(k8s: Path, service: str) -> None:
    config = load(config_of(service), service, settings(k8s, service))
    assert config.server.listen == "0.0.0.0:50051"
    assert config.health.listen == "0.0.0.0:9090"


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_lives_longer_than_its_server_takes_to_end(k8s: Path, service: str) -> None:
    server = load(config_of(service), service, settings(k8s, service)).server
    deployment = (k8s / "base" / service / "deployment.yaml").read_text()
    (period,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", deployment)
    (pre_stop,) = re.findall(r"command: \[sleep, \"(\d+)\"\]", deployment)
    assert int(period) > int(pre_stop) + server.drain + server.grace


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_in_a_config_map(k8s: Path, service: str) -> None:
    secret = {variable for variable, key in keys(service).items() if key.secret}
    assert settings(k8s, service).keys() & secret == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_of_a_service_is_mounted_and_operators_are_told_to_make_it(
    checkout: Path, k8s: Path, service: str
) -> None:
    parts = [
        *(k8s / "base" / service).iterdir(),
        *(k8s / "components").glob(f"*/{service}.yaml"),
    ]
    text = "\n".join(part.read_text() for part in parts)
    folders = {found["folder"]: found["volume"] for found in MOUNT.finditer(text)}
    sources = {found["volume"]: found["source"] for found in VOLUME.finditer(text)}
    guide = (checkout / "docs/operators.md").read_text().replace("\\\n", " ")
    made = "\n".join(
        line.replace("$service", service) for line in guide.splitlines() if " create " in line
    )
    told = list(FILE.finditer(text))
    assert told
    for file in told:
        source = sources[folders[file["folder"]]]
        name = re.escape(file["name"])
        wanted = rf"create (secret generic|configmap) {source} .*--from-file={name}(=|\s|$)"
        assert re.search(wanted, made), f"{source}: {file['name']}"


def test_production_knows_who_represents_a_firm_and_is_no_sandbox(k8s: Path) -> None:
    overlay = (k8s / "overlays/prod/kustomization.yaml").read_text()
    assert "../../components/proof-issuers\n" in overlay
    component = (k8s / "components/proof-issuers/datashare.yaml").read_text()
    assert "PUHUI_DATASHARE_PROOF_ISSUERS\n" in component
    sandboxes = [path for path in files(k8s) if "_SANDBOX" in path.read_text()]
    assert {path.parent for path in sandboxes} == {k8s / "overlays/dev"}


def test_every_service_has_tls_and_production_has_nothing_else(k8s: Path) -> None:
    for service in SERVICES:
        config = load(config_of(service), service, settings(k8s, service))
        assert config.server.tls.on
        assert not config.server.reflection
    overlay = (k8s / "overlays/prod/kustomization.yaml").read_text()
    assert "../../components/production\n" in overlay
    component = (k8s / "components/production/gateway.yaml").read_text()
    found = dict(re.findall(r"- name: (PUHUI_\w+)\n +value: (\S+)\n", component))
    config = load(config_of("gateway"), "gateway", settings(k8s, "gateway") | found)
    assert (config.tenant, config.plain_listen, config.plain_http_listen) == ("production", "", "")


def test_cert_manager_makes_what_the_deployments_mount(k8s: Path) -> None:
    certificates = (k8s / "components/cert-manager/certificates.yaml").read_text()
    for service in SERVICES:
        assert f"secretName: {service}-tls\n" in certificates
        assert f"spiffe://puhui/{service}" in certificates
        assert f"dnsNames: [{service}]\n" in certificates
        deployment = (k8s / "base" / service / "deployment.yaml").read_text()
        assert f"secretName: {service}-tls\n" in deployment


def test_the_tool_makes_certificates_that_the_services_take(k8s: Path, tmp_path: Path) -> None:
    tool = [str(k8s / "tools/certificates"), str(tmp_path), "localhost"]
    subprocess.run(tool, check=True, timeout=60)
    for service in SERVICES:
        own, key = tmp_path / f"{service}.crt", tmp_path / f"{service}.key"
        found = Certificates(service, TlsConfig(own, key, tmp_path / "ca.crt")).current()
        peer = peer_of(found.certificate, datetime.now(UTC))
        assert peer is not None
        assert peer.names == (spiffe_id(TRUST_DOMAIN, service),)


def test_production_serves_validated_models_that_are_signed_by_a_trusted_key(
    k8s: Path, tmp_path: Path
) -> None:
    assert (
        "../../components/validated-models\n"
        in (k8s / "overlays/prod/kustomization.yaml").read_text()
    )
    component = (k8s / "components/validated-models/scoring.yaml").read_text()
    found = re.findall(r"- name: (PUHUI_\w+)\n +value: (\S+)\n", component)
    config = load(config_of("scoring"), "scoring", settings(k8s, "scoring") | dict(found))
    assert (config.tenant, bool(config.trusted_model_keys)) == ("production", True)
    with pytest.raises(ConfigError, match="trusted_model_keys"):
        load(
            config_of("scoring"),
            "scoring",
            settings(k8s, "scoring") | {"PUHUI_SCORING_TENANT": "production"},
        )


def test_the_images_are_of_this_version(checkout: Path, k8s: Path) -> None:
    (version,) = re.findall(
        r'^version = "(.*)"', (checkout / "pyproject.toml").read_text(), re.MULTILINE
    )
    tags = [
        tag
        for path in files(k8s)
        for tag in re.findall(r"newTag: (\S+)|image: puhui-\w+:(\S+)", path.read_text())
    ]
    assert {"".join(tag) for tag in tags} == {version}
