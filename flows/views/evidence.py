"""What is known of an attempt's end, as it is shown to people."""

from __future__ import annotations

import re

from hpo_engine.types import AttemptEnded

_NAMED = re.compile(
    r"((?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credentials?)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&]{6,})",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{12,}", re.IGNORECASE)
_URL = re.compile(r"(://)[^/\s:@]+:[^/\s@]+@")
_AWS = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")


def said(end: AttemptEnded) -> str:
    """The last lines that the training code logged; the very last of them after what ended it."""
    message, log = evidence(end)
    log = [line.strip() for line in log]
    last = " | ".join(part for part in (message, log[-1] if log else "") if part)
    return "\n".join([*log[:-1], last]).strip()


def evidence(end: AttemptEnded) -> tuple[str, list[str]]:
    """What ended an attempt, and the last lines that it logged; without what looks like a password."""
    log = [masked(line.rstrip()) for line in end.evidence.get("log", "").splitlines() if line.strip()]
    return masked(end.evidence.get("message", "") or end.evidence.get("signal", "")), log


def masked(text: str) -> str:
    """Text of others without what looks like a password or a key: it may have been printed by mistake.

    >>> masked("WANDB_API_KEY=0123456789abcdef lr=0.1")
    'WANDB_API_KEY=*** lr=0.1'
    >>> masked("cannot open postgresql://me:hunter2@db/runs")
    'cannot open postgresql://***@db/runs'
    >>> masked("max_tokens: 1024, pad_token: 0")
    'max_tokens: 1024, pad_token: 0'
    """
    text = _NAMED.sub(r"\1***", text)
    text = _BEARER.sub(r"\1 ***", text)
    return _AWS.sub("***", _URL.sub(r"\1***@", text))
