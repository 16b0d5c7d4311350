"""Before the training code: claim the attempt, restore its checkpoint, wait for the agent beside it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace

from hpo_engine.types import Outcome
from operators.agent import Attempt
from operators.attempt import claim_key, facts_key
from operators.codec import dumps
from operators.sidecar_keys import open_with_newest
from operators.sidecar_place import Place, insist, tell
from operators.store import Store
from operators.verdict import Facts, decode_facts, encode_facts

REFUSED = 3  # our exit code: this pod has nothing to do, its termination message says why


def prepare(place: Place, env: Mapping[str, str]) -> int:
    """The exit code: 0 lets the training code begin, any other makes the pod Failed without it."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))  # nothing has been done yet
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if not place.memory.exists():  # else this container is run once more
        os.umask(0o002)  # training code of another user, but of our group, may delete what we write
        store, _ = open_with_newest(place, env)
        owner = insist(lambda: claim(place, store), time.sleep)
        if owner != place.pod:
            return _refused(place, insist(lambda: taken(place, store, owner), time.sleep))
        if (facts := _make(place, store)) is not None:
            return _refused(place, facts)
    _await(place.port)
    return 0


def _refused(place: Place, facts: Facts) -> int:
    place.say(facts)
    tell(f"this pod has nothing to do: {facts.message}")
    return REFUSED


def claim(place: Place, store: Store) -> str:
    """The uid of the pod that acts for the attempt: of two, one gets it."""
    key = claim_key(place.spec.study, place.spec.trial, place.spec.attempt)
    if store.put_once(key, dumps({"pod": place.pod})):
        return place.pod
    return str(json.loads(store.get(key) or b"{}").get("pod"))


def taken(place: Place, store: Store, owner: str) -> Facts:
    """What that pod has left, if it has; it may be gone, and its status with it."""
    spec = place.spec
    data = store.get(facts_key(spec.study, spec.trial, spec.attempt))
    facts = decode_facts(data) if data is not None else None
    message = f"pod {owner} has this attempt, and has not said how it ended"
    unknown = Facts(
        spec.trial, spec.attempt, spec.resource, until=spec.until, ended=Outcome.LOST, message=message
    )
    return facts or unknown


def _make(place: Place, store: Store) -> Facts | None:
    """Make the trial's directory; the facts if that was all there is to do."""
    spec = place.spec
    attempt = Attempt(spec, store, place.trial, memory=place.memory)

    def fresh() -> None:
        shutil.rmtree(place.trial, ignore_errors=True)
        attempt.prepare()

    (place.shared / "home").mkdir(exist_ok=True)
    lend_init(place)
    insist(fresh, time.sleep)
    if not (attempt.fulfilled or attempt.order.stop or attempt.fenced):
        attempt.remember()
        return None
    facts = attempt.facts(Outcome.INTERRUPTED if attempt.fenced else None)
    facts = replace(facts, message=facts.message or "there was nothing left to do")
    key = facts_key(spec.study, spec.trial, spec.attempt)
    insist(lambda: store.put(key, encode_facts(facts)), time.sleep)
    return facts


def lend_init(place: Place) -> None:
    """What the training code runs under, `/abohb/init`.

    Process 1 of a container hears of no signal that it does not handle; training code that handles none
    would keep its GPUs until the pod's grace is over.
    """
    if place.init.exists():
        shutil.copyfile(place.init, place.shared / "init")
        (place.shared / "init").chmod(0o755)


def _await(port: int) -> None:
    """Until the agent beside us listens: from then on neither a line nor a signal can be missed."""
    while True:
        connection = http.client.HTTPConnection("localhost", port, timeout=5)
        try:
            connection.request("GET", "/started")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()
