"""What can be said of the images without building them; tests/cluster/test_images.py runs them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from flows.study.file import load_study

ROOT = Path(__file__).parents[2]
NAMES = ["agent", "controller", "trial-digits", "trial-pytorch", "trial-shell"]


def dockerfile(name: str) -> str:
    return (ROOT / "images" / name / "Dockerfile").read_text()


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "images" / name / "requirements.txt").read_text().splitlines()
    return {package: version for package, _, version in (line.partition("==") for line in lines)}


def test_these_are_all_images() -> None:
    assert sorted(path.parent.name for path in (ROOT / "images").glob("*/Dockerfile")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_images_run_as_a_number_that_is_not_root(name: str) -> None:
    """Pod Security `restricted` refuses an image whose user is a name."""
    assert re.findall(r"^USER (.*)$", dockerfile(name), flags=re.M) == ["1000:1000"]


@pytest.mark.parametrize("name", NAMES)
def test_the_base_image_is_an_argument(name: str) -> None:
    text = dockerfile(name)
    assert "ARG BASE_IMAGE=docker.io/library/python:3.11-slim\n" in text
    assert set(re.findall(r"^FROM (\S+)", text, flags=re.M)) <= {"${BASE_IMAGE}", "scratch"}


@pytest.mark.parametrize("name", NAMES)
def test_what_images_copy_exists_and_is_let_through(name: str) -> None:
    """.dockerignore names what a build gets; all else stays out of it."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    open_to = tuple(rule[1:] for rule in rules if rule.startswith("!"))
    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(name), flags=re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.startswith(open_to), source


def test_the_controller_has_all_that_the_project_needs_and_of_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins("controller")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[requirement.name]), text


def test_every_package_is_pinned_and_the_same_everywhere() -> None:
    controller = pins("controller")
    for name in ("agent", "trial-digits", "trial-pytorch"):
        ours = pins(name)
        assert all(re.fullmatch(r"[\w.]+", version) for version in ours.values())
        assert {k: v for k, v in ours.items() if controller.get(k, v) != v} == {}
    assert set(pins("agent")) <= set(controller)
    assert pins("agent").keys() & {"numpy", "prefect", "pydantic", "kubernetes"} == set()


@pytest.mark.parametrize("name", ["digits", "pytorch", "shell"])
def test_the_examples_are_valid_and_name_our_images(name: str) -> None:
    study = load_study(ROOT / f"examples/kubernetes/{name}.yaml")
    assert study.image == f"abohb-trial-{name}:dev"
    assert study.kubernetes.agent_image == "abohb-agent:dev"
    assert study.store.startswith("s3://abohb/")


def test_the_digits_study_is_the_one_that_runs_on_one_machine() -> None:
    here, there = (
        load_study(ROOT / f"examples/{path}.yaml") for path in ("digits/study", "kubernetes/digits")
    )
    assert here.fixed() == there.fixed()
    assert here.command == there.command


@pytest.mark.parametrize("name", ["minio", "controller"])
def test_our_own_pods_are_restricted(name: str) -> None:
    documents = list(yaml.safe_load_all((ROOT / f"examples/kubernetes/{name}.yaml").read_text()))
    (spec,) = (one["spec"]["template"]["spec"] for one in documents if "template" in one.get("spec", {}))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in spec["containers"]:
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# -- images/build.sh, with a tool that writes down how it was called -----------------------------------


def build(
    folder: Path, *arguments: str, tools: tuple[str, ...] = ("docker",), **env: str
) -> tuple[int, str, list[str]]:
    """(exit code, output, what the tools were told)."""
    calls = folder / "calls"
    for tool in tools:
        script = folder / tool
        script.write_text(f'#!/bin/sh\necho "{tool} $*" >> {calls}\n')
        script.chmod(0o755)
    path = str(plain_tools(folder))
    done = subprocess.run(
        [ROOT / "images/build.sh", *arguments], capture_output=True, text=True, env={"PATH": path, **env}
    )
    told = calls.read_text().splitlines() if calls.exists() else []
    return done.returncode, done.stdout + done.stderr, [call for call in told if call != "docker info"]


def plain_tools(folder: Path) -> Path:
    """A PATH on which there is no real tool."""
    for name in ("bash", "cp", "env", "dirname", "git", "ls", "mkdir", "realpath", "rm", "sed", "sh"):
        found = shutil.which(name)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return folder


def test_all_images_are_built_and_pushed_by_tag(tmp_path: Path) -> None:
    code, output, calls = build(tmp_path, "--push", "registry.example/me/", "--tag", "1.2")
    references = [f"registry.example/me/abohb-{name}:1.2" for name in NAMES]
    assert (code, output.split()) == (0, references)
    assert calls == [
        call
        for name, reference in zip(NAMES, references, strict=True)
        for call in (
            f"docker build --file images/{name}/Dockerfile --tag {reference} .",
            f"docker push {reference}",
        )
    ]


def test_one_image_from_another_base_is_not_pushed(tmp_path: Path) -> None:
    code, output, calls = build(tmp_path, "--tag", "1", "agent", BASE_IMAGE="mirror/python:3.12")
    assert (code, output.split()) == (0, ["abohb-agent:1"])
    assert len(calls) == 1
    assert calls[0].endswith(" --tag abohb-agent:1 --build-arg BASE_IMAGE=mirror/python:3.12 .")


def test_wheels_are_lent_to_the_build_and_taken_back(tmp_path: Path) -> None:
    lent = ROOT / "images/trial-pytorch/wheels"
    (tmp_path / "torch-9-any.whl").touch()
    seen = tmp_path / "seen"
    looker = tmp_path / "tools"
    looker.mkdir()
    (looker / "docker").write_text(f"#!/bin/sh\nls {lent} >> {seen} || true\n")
    (looker / "docker").chmod(0o755)
    done = subprocess.run(
        [ROOT / "images/build.sh", "--tag", "1", "--wheels", ".", "trial-pytorch"],
        cwd=tmp_path, env={"PATH": str(plain_tools(looker))}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "abohb-trial-pytorch:1\n"), done.stderr
    assert "torch-9-any.whl" in seen.read_text().split()
    assert not lent.exists()


def test_another_index_is_for_torch_alone(tmp_path: Path) -> None:
    _, _, calls = build(tmp_path, "--tag", "1", "agent", "trial-pytorch", TORCH_INDEX="https://t.example/cpu")
    assert "TORCH_INDEX" not in calls[0]
    assert " --build-arg TORCH_INDEX=https://t.example/cpu " in calls[1]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("trial-")])
def test_the_page_shows_each_training_image_as_it_is_built(name: str) -> None:
    page = (ROOT / "docs/images.md").read_text()
    assert f"```dockerfile\n{dockerfile(name)}```\n" in page


def test_the_pytorch_trial_is_short() -> None:
    assert len((ROOT / "images/trial-pytorch/train.py").read_text().splitlines()) < 60


@pytest.mark.parametrize(
    ("registry", "options", "verified"),
    [("localhost:5000", [], "false"), ("r.example", [], "true"), ("r.example", ["--insecure"], "false")],
)
def test_buildah_pushes_without_tls_where_it_may(
    tmp_path: Path, registry: str, options: list[str], verified: str
) -> None:
    arguments = ("--tool", "buildah", "--push", registry, "--tag", "1", *options, "agent")
    code, _, calls = build(tmp_path, *arguments, tools=("buildah", "docker"))
    reference = f"{registry}/abohb-agent:1"
    assert code == 0
    assert calls[0].startswith("buildah bud --layers --file images/agent/Dockerfile")
    assert calls[1] == f"buildah push --tls-verify={verified} {reference} docker://{reference}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agnet"], "there is no images/agnet/Dockerfile"),
        (["--psuh", "x"], "--psuh is no option"),
        (["--tag"], "--tag needs a value"),
        (["--wheels", "docs"], "there is no wheel in "),
        (["--tool", "kaniko"], "--tool is docker or buildah, got kaniko"),
        (["--tool", "buildah"], "buildah is not there"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, output, calls = build(tmp_path, *arguments)
    assert (code, calls) == (2, [])
    assert said in output
