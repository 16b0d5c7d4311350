"""YAML with the lines of its keys, read as YAML 1.2 has it: `1e-4` is a number, `no` is a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from flows.study.words import Path


@dataclass(frozen=True, slots=True)
class Document:
    """`lines`: path of a key or list entry to its line. `problems`: (path, line, message)."""

    data: object = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: tuple[tuple[Path, int | None, str], ...] = ()


MOST = 100_000  # entries: a few aliases of aliases would fill any memory


class _TooLargeError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    """The scalars of YAML 1.2's core schema instead of those of 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's name)


_NUMERIC = list("-+.0123456789")
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _NUMERIC),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        _NUMERIC,
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)

# What PyYAML says, and what the user most likely did.
_HINTS = (
    ("'\\t'", "tabs cannot indent YAML; use spaces"),
    ("but got '{'", 'put text with { } within [ ] in quotes: ["--lr={lr}"]'),
    ("mapping values are not allowed", "put text that contains ': ' in quotes, or check the indentation"),
    ("cannot start any token", "put this text in quotes"),
    ("could not find expected ':'", "each line is `key: value`, with a space after the colon"),
    ("block end", "check the indentation: keys of one section begin in the same column"),
    ("quoted scalar", "a quote is opened and not closed"),
    ("<stream end>", "a bracket is opened and not closed"),
    ("single document", "one file holds one study; remove the line ---"),
)


def read_yaml(text: str) -> Document:
    """Never raises for what stands in `text`: all that is wrong is in `problems`."""
    reader = _Reader({}, [], set())
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = None if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        return _broken(error)
    except yaml.YAMLError as error:
        return Document(problems=(((), None, f"is not valid YAML: {str(error).splitlines()[0]}"),))
    except RecursionError:
        return Document(problems=(((), None, "is nested too deep for a study"),))
    except _TooLargeError:
        return Document(problems=(((), None, f"has more than {MOST} entries, aliases filled in"),))
    return Document(data, reader.lines, tuple(reader.problems))


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """Of the key itself, else of the section that it is missing in."""
    places = (lines.get(path[:end]) for end in range(len(path), 0, -1))
    return next((line for line in places if line is not None), None)


def _broken(error: yaml.MarkedYAMLError) -> Document:
    mark = error.problem_mark or error.context_mark
    said = ", ".join(part for part in (error.context, error.problem) if part)
    hint = next((hint for words, hint in _HINTS if words in said), "")
    line = mark.line + 1 if mark else None
    return Document(problems=(((), line, f"is not valid YAML: {said}" + (f"; {hint}" if hint else "")),))


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, slots=True)
class _Reader:
    lines: dict[Path, int]
    problems: list[tuple[Path, int | None, str]]
    open: set[int]  # nodes that are being read: an alias to one of them has no end

    def value(self, node: yaml.Node, path: Path) -> object:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(self.lines) > MOST:
            raise _TooLargeError
        if id(node) in self.open:
            return self._odd(node, path, "an alias that contains itself")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            return self._odd(node, path, f"the tag {node.tag!r}; a study file has no tags")
        self.open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return self._mapping(node, path)
                case yaml.SequenceNode():
                    return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[object, object]:
        data: dict[object, object] = {}
        for key_node, value_node in node.value:
            key, line = self._key(key_node, path), key_node.start_mark.line + 1
            below = (*path, key if isinstance(key, int) else str(key))
            if key in data:
                first = self.lines[below]
                self.problems.append(
                    (below, line, f"is given twice, first on line {first}; remove one of them")
                )
                continue
            self.lines[below] = line
            data[key] = self.value(value_node, below)
        return data

    def _key(self, node: yaml.Node, path: Path) -> object:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._odd(node, path, 'a list or mapping as a key; put text with { } in quotes: "{lr}"')

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text = str(node.value)
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
                case "float":
                    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except ValueError:
            return self._odd(node, path, f"{text!r}, which is no {kind}")
        return self._odd(node, path, f"the tag {node.tag!r}; a study file has no tags")

    def _odd(self, node: yaml.Node, path: Path, came: str) -> object:
        self.problems.append((path, node.start_mark.line + 1, f"got {came}"))
        return None
