"""What a scheduler says about a pod that fits nowhere, in few words."""

from __future__ import annotations

import re
from collections import Counter

_BEGIN = "nodes are available: "
_COUNTED = re.compile(r"(\d+) (.+)")
_TAINT = re.compile(
    r"had (?:untolerated )?taint(?:\(s\))? \{([^:}]*): ?([^}]*)\}(?:, that the pod didn't tolerate)?"
)
_WORDS = {
    "had untolerated taint(s)": "taint",  # Kubernetes 1.34 and later do not say which
    "were unschedulable": "cordoned",
    "taint node.kubernetes.io/unschedulable": "cordoned",
    "didn't match Pod's node affinity/selector": "node selector",
}


def split(message: str) -> list[tuple[str, int]]:
    """Reasons with the number of nodes that each holds for, most nodes first; empty if it names none.

    >>> split("0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable. preemption: ...")
    [('Insufficient cpu', 2), ('cordoned', 1)]
    """
    reasons: Counter[str] = Counter()
    for part in re.split(r", (?=\d+ )", _first(message)):
        if found := _COUNTED.fullmatch(part.strip()):
            reasons[_short(found[2])] += int(found[1])
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _short(reason: str) -> str:
    words = _TAINT.sub(_taint, reason.removeprefix("node(s) "))
    return _WORDS.get(words, words)


def _taint(found: re.Match[str]) -> str:
    return f"taint {found[1]}" + (f"={found[2].strip()}" if found[2].strip() else "")


def summary(message: str) -> str:
    """The reasons as one line; of a message that names none, its first sentence."""
    reasons = [f"{reason} ({count} node{'s' * (count > 1)})" for reason, count in split(message)]
    return ", ".join(reasons) or _first(message)[:120]


def _first(message: str) -> str:
    """The first sentence, without its beginning that is always the same."""
    sentence: str = re.split(r"\.(?: |$)", message)[0]
    return sentence.partition(_BEGIN)[2] or sentence


def without_counts(cause: str) -> str:
    """Changes only when the reasons do, not with every node that fills up or empties.

    >>> without_counts("unschedulable: Insufficient cpu (3 nodes), cordoned (1 node)")
    'unschedulable: Insufficient cpu, cordoned'
    """
    kind, colon, reasons = cause.partition(": ")
    return kind + colon + ", ".join(sorted(re.sub(r" \(\d+ nodes?\)", "", reasons).split(", ")))
