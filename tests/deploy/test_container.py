"""What is shipped for containers and systemd, as far as it can be judged without running either."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"


def instructions(stage: str) -> list[tuple[str, str]]:
    """The instructions of one stage of the Dockerfile."""
    parser = DockerfileParser(path=str(CONTAINER / "Dockerfile"))
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for each in parser.structure:
        if each["instruction"] == "FROM":
            name = each["value"].split(" AS ")[1]
        if each["instruction"] != "COMMENT":
            found.setdefault(name, []).append((each["instruction"], each["value"]))
    assert list(found)[-1] == "gate", "what is built without --target"
    return found[stage]


def test_the_image_has_no_root_no_shell_and_a_health_check_of_its_own() -> None:
    gate = instructions("gate")
    values = dict(gate)
    assert values["FROM"].startswith("gcr.io/distroless/cc-debian12") and not any(name == "RUN" for name, _ in gate)
    assert values["USER"] == "64321:64321"
    for name in ("ENTRYPOINT", "CMD"):
        assert values[name].startswith("["), "the shell form needs a shell"
    assert 'CMD ["/usr/bin/writ", "health"]' in values["HEALTHCHECK"]
    assert values["STOPSIGNAL"] == "SIGTERM"
    # Program and runtime are of one release, or the C library does not fit.
    assert "bookworm" in dict(instructions("build"))["FROM"]


@pytest.mark.parametrize("stage", ["build", "fence", "gate"])
def test_what_is_copied_is_there(stage: str) -> None:
    for name, value in instructions(stage):
        if name == "COPY" and "--from=" not in value:
            source = value.split()[-2]
            assert (ROOT / source).exists(), source


def test_an_agent_of_the_compose_file_has_no_other_way_out() -> None:
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    gate, agent = compose["services"]["writ"], compose["services"]["agent"]
    assert list(agent["networks"]) == ["agents"] and compose["networks"]["agents"] == {"internal": True}
    operator = gate["environment"]["WRIT_DOORS_OPERATOR"].split(":")[0]
    assert gate["networks"]["outside"]["ipv4_address"] == operator, "agents have no route to the operator door"
    assert gate["ports"] == ["127.0.0.1:8787:8787"] and "ports" not in agent
    assert gate["read_only"] and gate["cap_drop"] == ["ALL"]
    assert (CONTAINER / gate["build"]["context"] / gate["build"]["dockerfile"]).exists()
    shared = {volume.split(":")[0] for volume in agent["volumes"]}
    assert shared == {"ca"} and agent["volumes"] == ["ca:/run/writ/ca:ro"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "systemd" / "writ.service").read_text()
    unit = tmp_path / "writ.service"
    unit.write_text(text.replace("/usr/bin/writ", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert verified.returncode == 0 and not verified.stderr, verified
    # Exposure in tenths: 20 is 2.0, where 10.0 is a service without any protection.
    words = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", unit]
    judged = subprocess.run(words, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
