"""From a study file, or a mapping, to a Study; or to all that is wrong with it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.study.checks import problems
from flows.study.fields import read_fields
from flows.study.model import Study
from flows.study.words import Path as Steps
from flows.study.words import dotted, near, shown
from flows.study.yaml import Document, line_of, read_yaml
from hpo_engine.types import AbohbError


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where in the study (`space.lr.low`), the line in the file, and what may come instead."""

    path: str
    line: int | None
    message: str

    def text(self, file: str = "") -> str:
        place = file if self.line is None or not file else f"{file}:{self.line}"
        return ": ".join(part for part in (f"{place} {self.path}".strip(), self.message) if part)


class StudyError(AbohbError):
    """A study that cannot be started; `str` of it is one line for each mistake."""

    def __init__(self, problems: list[Problem], file: str = "") -> None:
        self.problems = problems
        self.file = file
        super().__init__("\n".join(problem.text(file) for problem in problems))


def load_study(path: str | Path) -> Study:
    """The study in a YAML file, its store and workdir absolute. StudyError lists all mistakes."""
    path = Path(path)
    document = read_yaml(read_text(path))
    return _study(document, str(path), path.absolute().parent)


def parse_study(data: Mapping[str, Any], folder: str | Path = ".") -> Study:
    """The same from Python; relative paths are relative to `folder`."""
    given = data.model_dump(exclude_unset=True) if isinstance(data, Study) else data
    return _study(Document(given), "", Path(folder).absolute())


def _study(document: Document, file: str, folder: Path) -> Study:
    data = document.data
    found = [Problem(dotted(path), line, text) for path, line, text in document.problems]
    if isinstance(data, Mapping) and data:
        told = {(problem.path, problem.line) for problem in found}
        found += [
            problem for problem in _problems(document, data) if (problem.path, problem.line) not in told
        ]
    elif not found:
        found = [Problem("", None, _no_study(data))]
    if found:
        raise StudyError(sorted(found, key=lambda problem: problem.line or _LAST), file)
    study = Study.model_validate(with_store(data))
    return study.model_copy(
        update={"store": _absolute(study.store, folder), "workdir": _absolute(study.workdir, folder)}
    )


def with_store(data: Any) -> Any:
    """A study that names no store is kept where ABOHB_STORE says."""
    store = os.environ.get("ABOHB_STORE")
    return {"store": store, **data} if store else data


def _problems(document: Document, data: Mapping[Any, object]) -> Iterator[Problem]:
    draft, wrong = read_fields(with_store(data))
    for path, text in [*wrong, *problems(draft)]:
        path = _standing(data, path)
        yield Problem(dotted(path), line_of(document.lines, path), text)


def _standing(data: object, path: Steps) -> Steps:
    """`method.name` is `method` where that is a text: short for its name."""
    for depth, step in enumerate(path):
        if isinstance(data, str):
            return path[:depth]
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
    return path


_LAST = 10**9  # what is missing at the top has no line


def _no_study(data: object) -> str:
    if not data:
        return "is empty; a study has at least name, command (or image), metrics, resource, space and budget"
    return f"got {shown(data)}, expected keys and values, beginning with name: and command:"


def _absolute(path: str, folder: Path) -> str:
    if path.startswith("s3://"):
        return path
    return str((folder / Path(path).expanduser()).resolve())


def read_text(path: Path) -> str:
    """StudyError: there is no such text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        others = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        guess = near(path.name, others)
        hint = f"; did you mean {path.with_name(guess)}?" if guess else ""
        message = f"there is no such file{hint}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise StudyError([Problem("", None, message)], str(path))
