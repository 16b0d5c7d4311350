"""Makes abohb/README.md of abohb/values.yaml: python helm/readme.py [--check]

A value without a comment is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "abohb"
README = CHART / "README.md"

TOP = """\
# abohb

Asynchronous BOHB on Kubernetes, started and watched in the Prefect UI.
[docs/deploy.md](../../docs/deploy.md) walks through it; [docs/security.md](../../docs/security.md) says who
may do what.

```sh
helm install abohb helm/abohb --namespace tuning --create-namespace \\
  --set image.registry=registry.example/ml,image.tag=dev
```

- `values.yaml`: all in one namespace, for a team that trusts each other; nothing else is needed.
- `values-production.yaml`: PostgreSQL, Redis and S3 of your own, a pod for each study, a policy that the API
  server holds.

The chart has no dependencies. Needed: Kubernetes 1.29 (1.30 for `admission.enabled`). A value that the chart
does not know is refused. Passwords are made once and kept; `helm uninstall` leaves volumes and passwords in
place, and the same release installed again finds them. Where nothing can be looked up in the cluster
(`helm template`, GitOps), give Secrets of your own: `store.existingSecret`, `prefect.auth.existingSecret`.

## Values

Made of the comments in [values.yaml](values.yaml) by `python helm/readme.py`.

| value | default | |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Value:
    path: str
    default: str
    about: str


def values(text: str) -> Iterator[Value]:
    """Every value with its comment, in their order; ValueError: it has none."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _within(root, "", text.splitlines())


def _within(mapping: yaml.MappingNode, above: str, lines: list[str]) -> Iterator[Value]:
    for key, node in mapping.value:
        path = f"{above}{key.value}"
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            yield from _within(node, f"{path}.", lines)
        else:
            shown = "\n".join(lines)[_at(lines, node.start_mark) : _at(lines, node.end_mark)]
            yield Value(path, " ".join(shown.split()), _comment(lines, key.start_mark.line, path))


def _at(lines: list[str], mark: yaml.Mark) -> int:
    return sum(len(line) + 1 for line in lines[: mark.line]) + mark.column


def _comment(lines: list[str], line: int, path: str) -> str:
    found: list[str] = []
    while line > 0 and lines[line - 1].strip().startswith("# "):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("# "))
    if not found:
        raise ValueError(f"{path} has no comment above it in values.yaml")
    return " ".join(found)


def readme(text: str) -> str:
    rows = [f"| `{one.path}` | `{_cell(one.default)}` | {_cell(one.about)} |\n" for one in values(text)]
    return TOP + "".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    made = readme((CHART / "values.yaml").read_text())
    if arguments == ["--check"]:
        if README.exists() and README.read_text() == made:
            return 0
        print(f"{README} is not what values.yaml says: run python helm/readme.py", file=sys.stderr)
        return 1
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
