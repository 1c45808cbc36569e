from pathlib import Path

import pytest
import yaml

from gateway.docs import PAGES
from gateway.settings import PREFIX, load
from schemas.avro import rendered
from schemas.topics import TOPICS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_as_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run make docs"


def test_committed_schemas_are_as_the_models_say() -> None:
    for name, text in rendered().items():
        assert (ROOT / "schemas" / "avsc" / name).read_text() == text, "run make docs"


def test_every_command_is_documented_with_help() -> None:
    page = PAGES["commands.md"]()
    for block in page.split("\n## ")[1:]:
        head, *rest = block.splitlines()
        assert any(line.strip() for line in rest), f"{head} has no help"


def test_readme_names_the_two_commands_and_fits_a_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert len(text.split()) < 900


@pytest.mark.parametrize("package", ["schemas", "sinks", "pipelines", "gateway"])
def test_every_package_has_a_readme(package: str) -> None:
    text = (ROOT / package / "README.md").read_text()
    assert 20 < len(text.split()) < 700


def test_compose_file_agrees_with_the_code() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    from gateway.processes import FLOWS

    assert set(FLOWS) <= set(services)
    for flow in FLOWS:
        assert services[flow]["command"] == ["run", flow]
    for name, service in services.items():
        environment = service.get("environment", {})
        ours = {key: value for key, value in environment.items() if key.startswith(PREFIX)}
        if name in FLOWS or name == "gateway":
            load({key: str(value) for key, value in ours.items() if not key.endswith("SECRET_FILE")})
    assert services["topics"]["command"] == ["topics", "create"]
    assert services["migrate"]["command"] == ["migrate"]
    ports = services["gateway"]["ports"]
    assert any(port.endswith(":8480") for port in ports)
    assert any(port.startswith("127.0.0.1:") and port.endswith(":8481") for port in ports)
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert len(TOPICS) == 18


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_have_hashes_and_no_addresses(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    assert not [line for line in lines if line.startswith("--")]
    pinned = [line for line in lines if line[:1].isalnum()]
    assert pinned
    assert all("==" in line and line.endswith("\\") for line in pinned)
