"""What `deploy/` offers operators: units that systemd accepts, commands that exist, metrics that are exported."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner
from fastapi.testclient import TestClient

from model_registry.service.server import create_app
from model_registry.store import Registry
from orchestrator.failures import read_failures
from orchestrator.jobs import Job, failed
from orchestrator.monitor_page import metrics
from orchestrator.progress import Follower
from orchestrator.run_folder import RunFolder
from shared.commands.main import model_trainer
from tests.orchestrator.orchestrated import Place
from tests.paths import ROOT

DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/model-trainer/bin/model-trainer"
PROGRAM = Path(sysconfig.get_path("scripts"), "model-trainer")


def verified(folder: Path, changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let systemd check copies of the units, with the program and user of this machine and `changes` of their text."""
    units = []
    for path in sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")]):
        text = path.read_text("utf-8").replace(INSTALLED, str(PROGRAM)).replace("User=model-trainer", "User=root")
        for old, new in changes.items():
            text = text.replace(old, new)
        units.append(folder / path.name)
        units[-1].write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    done = verified(tmp_path, {})
    assert (done.returncode, done.stderr) == (0, "")
    for change in ({"KillMode=mixed": "KillMode=some"}, {"OnCalendar=*-*-* 01:30": "OnCalendar=at night"}):
        assert "ailed to parse" in verified(tmp_path, change).stderr, change


CRON = DEPLOY / "model-trainer.cron"


def cron_line() -> tuple[list[str], str, str]:
    """Return the five fields of the one line that cron runs, its user and its command."""
    lines = [line for line in CRON.read_text("utf-8").splitlines() if not re.match(r"#|\w+=", line)]
    (line,) = lines
    *fields, user, command = line.split(maxsplit=6)
    return fields, user, command


@pytest.mark.slow
def test_the_line_for_cron_trains_and_mails_only_what_changed(place: Place) -> None:
    """Cron runs it with sh and mails what it prints."""
    fields, user, command = cron_line()
    assert (fields, user) == (["30", "1", "*", "*", "*"], "model-trainer")
    assert "%" not in command, "cron takes it for the end of the line"
    assert CRON.read_text("utf-8").endswith("\n"), "cron skips a last line that has no end"
    (registry,) = re.findall("^MODEL_TRAINER_REGISTRY=(.+)$", CRON.read_text("utf-8"), re.M)
    places = {
        INSTALLED: str(PROGRAM),
        "/var/lib/model-trainer": str(place.root),
        "/srv/model-trainer/data": str(place.data),
        "--runs runs >": f"--runs runs --trainer-commands {place.root / 'commands.json'} >",
    }
    for old, new in places.items():
        assert old in command
        command, registry = command.replace(old, new), registry.replace(old, new)
    place.add("ana")
    place.add("ben")
    place.set_behaviours({"ben speech": "internal"})

    def night() -> subprocess.CompletedProcess[str]:
        environment = {**place.environment(), "MODEL_TRAINER_REGISTRY": registry}
        return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=200)

    first, second = night(), night()
    assert "ben speech" in first.stdout and "ana" not in first.stdout
    assert [entry.user_id for entry in Registry(Path(registry)).entries()] == ["ana"]
    assert (second.stdout, second.stderr) == ("", "")


def cluster() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "cluster.yaml").read_text("utf-8"))  # type: ignore[no-any-return]


def commands() -> list[list[str]]:
    """Return the words after `model-trainer` in every unit, the cron line and the compose file."""
    texts = "\n".join(path.read_text("utf-8") for path in sorted(DEPLOY.iterdir()))
    found = [shlex.split(line) for line in re.findall(rf"{INSTALLED} ([^\n;>]+)", texts)]
    services = cluster()["services"]
    found += [services[name]["command"] for name in ("registry", "monitor")]
    return [*found, services["batch"]["entrypoint"][1:]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_option_exists(words: list[str]) -> None:
    names = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    shown = CliRunner().invoke(model_trainer, [*names, "--help"])
    assert shown.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert f"{option} " in shown.output, option


def test_the_compose_file_of_a_cluster_follows_the_specification_and_is_hardened() -> None:
    place = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    validator = jsonschema_rs.validator_for(json.loads(Path(str(place)).read_text("utf-8")))
    assert [error.message for error in validator.iter_errors(cluster())] == []
    for name, service in cluster()["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"]
    return groups[0]["rules"]  # type: ignore[no-any-return]


def test_every_alert_has_a_summary_and_nothing_else_by_accident() -> None:
    """A comma in an unquoted summary begins another annotation, and Prometheus refuses the file."""
    for rule in alerts():
        assert set(rule) - {"for"} == {"alert", "expr", "annotations"} and set(rule["annotations"]) == {"summary"}


# Alert -> what Prometheus has scraped: a series, and its values minute by minute, when the alert must fire.
FIRING = {
    "RegistryDown": {'up{job="model-registry"}': "0x120"},
    "RegistryErrors": {'registry_requests_total{job="model-registry",status="507"}': "0+1x120"},
    "RegistrySlow": {
        'registry_seconds_bucket{job="model-registry",le="1"}': "0+0x120",
        'registry_seconds_bucket{job="model-registry",le="10"}': "0+5x120",
        'registry_seconds_bucket{job="model-registry",le="+Inf"}': "0+5x120",
    },
    "TrainingFails": {'model_trainer_failures{job="model-trainer",kind="failed",change="new",cause="data"}': "2x120"},
    "NoBatch": {'model_trainer_batch_started_seconds{job="model-trainer"}': "-100000x120"},
    "BatchInterrupted": {
        'model_trainer_batch_finished{job="model-trainer"}': "0x120",
        'model_trainer_jobs{job="model-trainer",modality="sound",state="running"}': "0x120",
    },
}
QUIET = {
    'up{job="model-registry"}': "1x120",
    'registry_requests_total{job="model-registry",status="507"}': "3x120",
    'registry_seconds_bucket{job="model-registry",le="1"}': "0+5x120",
    'registry_seconds_bucket{job="model-registry",le="+Inf"}': "0+5x120",
    'model_trainer_failures{job="model-trainer",kind="failed",change="unchanged",cause="data"}': "2x120",
    'model_trainer_batch_started_seconds{job="model-trainer"}': "0x120",
    'model_trainer_batch_finished{job="model-trainer"}': "0x120",
    'model_trainer_jobs{job="model-trainer",modality="sound",state="running"}': "1x120",
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here; Debian's package prometheus has it")
def test_prometheus_accepts_the_alerts_and_each_fires_when_it_should(tmp_path: Path) -> None:
    assert list(FIRING) == [rule["alert"] for rule in alerts()]
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)

    def outcome(alert: str, series: dict[str, str], fires: bool) -> subprocess.CompletedProcess[str]:
        labels = {"TrainingFails": {"cause": "data"}}.get(alert, {"job": "model-trainer"})
        labels = {"job": "model-registry"} if alert == "RegistryDown" else labels
        labels = {} if alert in ("RegistryErrors", "RegistrySlow") else labels
        summary = next(rule["annotations"] for rule in alerts() if rule["alert"] == alert)
        expected = [{"exp_labels": labels, "exp_annotations": summary}] if fires else []
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": "60m", "alertname": alert, "exp_alerts": expected}],
        }
        file = tmp_path / f"{alert}.yml"
        file.write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": [test]}))
        return subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60)

    for alert, series in FIRING.items():
        for given, fires in ((series, True), (QUIET, False)):
            done = outcome(alert, given, fires)
            assert done.returncode == 0, (alert, fires, done.stdout + done.stderr)


def test_every_metric_of_the_alerts_is_exported(tmp_path: Path) -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    expressions = "\n".join(rule["expr"] for rule in rules)
    named = set(re.findall(r"\b(?:registry|model_trainer)_\w+", expressions))
    exported = exposition(tmp_path)
    assert len(rules) >= 5 and len(named) >= 5
    for name in named:
        assert re.search(rf"^{name}[{{ ]", exported, re.M), name
    for label, value in re.findall(r'(\w+)="([^"]+)"', expressions):
        if label != "job":
            assert f'{label}="{value}"' in exported, (label, value)


def test_the_page_for_operators_describes_every_metric(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    ours = set(re.findall(r"^# TYPE ((?:registry|model_trainer)_\w+)", exposition(tmp_path), re.M))
    assert len(ours) >= 8
    assert {name for name in ours if not name.endswith("_created") and f"`{name}" not in page} == set()


def test_metrics_name_nobody(tmp_path: Path) -> None:
    assert "secret_person" not in exposition(tmp_path)


def exposition(folder: Path) -> str:
    """Return what the service and the monitor export after a request and in a batch with a failure."""
    store = Registry(folder / "registry")
    store.created()
    client = TestClient(create_app(store))
    client.get("/health")
    runs = RunFolder(folder / "runs")
    job = Job(user="secret_person", modality="speech", data="d", fingerprint="a.b.c")
    runs.begin({}, [job])
    runs.record("finished", failed(job, "internal", "x").model_dump())
    return client.get("/metrics").text + metrics(Follower(runs).read(), read_failures(runs)).decode()
