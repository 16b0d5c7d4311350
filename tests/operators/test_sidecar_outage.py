"""The agent of a pod while its store is away, hangs, or gives it new keys: a MinIO server of our own."""

from __future__ import annotations

import http.client
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_engine.types import Outcome
from operators import sts
from operators.attempt import credentials_key
from operators.s3 import S3Store, open_s3
from operators.s3_credentials import encode_credentials
from operators.sidecar_keys import LOOK, open_with_newest
from operators.sidecar_place import REFUSALS, Away, Place, insist
from operators.store import StoreError
from operators.verdict import Death, judge
from tests.operators.pods import MakePod, Pod, pods_on, reached, reports
from tests.operators.stores import BUCKET, Minio, make_bucket, minio_program
from tests.operators.trials import SPEC, spec, wait


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[Minio]:
    server = Minio(minio_program(), tmp_path / "minio")
    server.folder.mkdir()
    server.start()
    make_bucket(server.env)
    yield server
    server.stop()


@pytest.fixture
def store(minio: Minio) -> S3Store:
    return open_s3(BUCKET, "p", minio.env)


@pytest.fixture
def pod(store: S3Store, tmp_path: Path) -> Iterator[MakePod]:
    yield from pods_on(store, tmp_path)


def seconds_to_answer(pod: Pod) -> float:
    """How long the kubelet waits for the agent."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", pod.port, timeout=10)
    connection.request("GET", "/trial")
    assert connection.getresponse().status == 200
    connection.close()
    return time.monotonic() - began


def test_an_outage_costs_nothing(minio: Minio, store: S3Store, pod: MakePod) -> None:
    """And its time is not the training code's: this one would have stalled twice."""
    running = pod(spec("obey(pause=0.1)", until=40, stall_after=1.5))
    wait(lambda: len(reached(store)) >= 5)
    minio.stop()
    time.sleep(3)
    assert seconds_to_answer(running) < 1
    minio.start()
    assert running.wait().verdict.outcome is Outcome.OK
    assert reached(store) == list(range(1, 41))
    assert [report.seconds for report in reports(store)] == sorted(
        report.seconds for report in reports(store)
    )


def test_a_store_that_hangs(minio: Minio, store: S3Store, pod: MakePod) -> None:
    running = pod(spec("obey(pause=0.1)", until=30))
    wait(lambda: len(reached(store)) >= 5)
    assert minio.process is not None
    minio.process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    assert seconds_to_answer(running) < 1
    minio.process.send_signal(signal.SIGCONT)
    assert running.wait().verdict.outcome is Outcome.OK
    assert reached(store) == list(range(1, 31))


def test_a_store_that_is_away_at_the_beginning(minio: Minio, store: S3Store, pod: MakePod) -> None:
    running = pod(spec("obey()"))
    minio.stop()
    time.sleep(2)
    assert running.prepared is None
    minio.start()
    assert running.wait().verdict.outcome is Outcome.OK
    assert reached(store) == [1, 2, 3]


def test_a_store_that_is_away_at_the_end(minio: Minio, store: S3Store, pod: MakePod) -> None:
    running = pod(spec("obey(pause=0.2)", until=10), grace=30.0)
    wait(lambda: len(reached(store)) >= 3)
    minio.stop()
    wait(lambda: running.trial is not None and running.trial.poll() is not None)
    time.sleep(1)
    minio.start()
    assert running.wait().verdict.outcome is Outcome.OK
    assert reached(store) == list(range(1, 11))


def test_a_store_that_does_not_come_back(minio: Minio, store: S3Store, pod: MakePod) -> None:
    """What the training code did is unknown then, so it is not to blame."""
    running = pod(spec("obey(pause=0.2)", until=5), grace=2.0)
    wait(lambda: len(reached(store)) >= 1)
    minio.stop()
    running.wait()
    facts = running.facts
    assert facts is not None
    assert not facts.saved
    assert facts.reached < 5
    assert judge(facts, Death(0), 0, 1).outcome is Outcome.LOST


# -- keys ------------------------------------------------------------------------------------------


def place(tmp_path: Path, store: S3Store) -> Place:
    return Place(SPEC, f"s3://{store.bucket}/{store.prefix}", "pod-1", own=tmp_path)


def test_new_keys_are_taken_over(minio: Minio, store: S3Store, tmp_path: Path) -> None:
    scope = sts.policy(BUCKET, "p/", "s", 0)
    first, second = (sts.assume(store, scope, name="pod", seconds=seconds) for seconds in (3600, 7200))
    assert first.expires is not None
    env = {
        "ABOHB_S3_ENDPOINT": store.place.endpoint,
        "AWS_ACCESS_KEY_ID": first.access_key,
        "AWS_SECRET_ACCESS_KEY": first.secret_key,
        "AWS_SESSION_TOKEN": first.token,
        "ABOHB_KEYS_EXPIRE": str(first.expires),
    }
    here = place(tmp_path, store)

    def keys_in_use() -> str:
        assert isinstance(agent, S3Store)
        return agent.keys.retrieve().access_key

    agent, renewal = open_with_newest(here, env)
    now = 0.0
    renewal.clock = lambda: now
    renewal.look()
    store.put(credentials_key("s", 0), encode_credentials(first))
    now = renewal._looked + LOOK + 1
    renewal.look()
    assert keys_in_use() == first.access_key  # those in the store are no newer
    store.put(credentials_key("s", 0), encode_credentials(second))
    renewal.look()
    assert keys_in_use() == first.access_key  # not looked at yet
    now += LOOK + 1
    renewal.look()
    assert keys_in_use() == second.access_key
    agent.put("s/trials/00000000/x", b"")
    kept = tmp_path / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    agent, renewal = open_with_newest(here, env)  # another agent, in the same environment
    assert (keys_in_use(), renewal.expire) == (second.access_key, second.expires)


def test_keys_of_a_secret_stay(minio: Minio, store: S3Store, tmp_path: Path) -> None:
    agent, renewal = open_with_newest(place(tmp_path, store), minio.env)
    others = sts.assume(store, sts.policy(BUCKET, "p/", "s", 0), name="pod")
    store.put(credentials_key("s", 0), encode_credentials(others))
    renewal.clock = lambda: renewal._looked + 2 * LOOK
    renewal.look()
    assert isinstance(agent, S3Store)
    assert agent.keys.retrieve().access_key == minio.env["AWS_ACCESS_KEY_ID"]


# -- patience ----------------------------------------------------------------------------------------


def test_how_long_it_waits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    waits: list[float] = []
    away = Away(waits.append)
    for _ in range(8):
        away.bear(OSError("the store is away"))
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    assert away.over()
    assert not away.over()
    assert capsys.readouterr().err.count("\n") == 2  # not a line for each try


def test_a_refusal_is_borne_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("operators.sidecar_place.time.monotonic", lambda: now)

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    def refused() -> None:
        raise StoreError("403")

    with pytest.raises(StoreError, match="403"):
        insist(refused, wait)
    assert REFUSALS < now < REFUSALS + 6
    answers = iter([StoreError("403"), OSError("away"), None])

    def recovers() -> int:
        if (answer := next(answers)) is not None:
            raise answer
        return 7

    assert insist(recovers, wait) == 7
