"""Keys of trials are renewed in time, and known again by the next controller."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from operators.attempt import credentials_key
from operators.kube.grants import EXPIRE, MARGIN, Grants
from operators.s3_credentials import Credentials, decode_credentials
from operators.store import DirectoryStore

LIFE = 3600.0


@dataclass
class Issuer:
    """An STS with a clock that the test moves."""

    now: float = 1000.0
    asked: list[int] = field(default_factory=list)

    def assume(self, trial: int) -> Credentials:
        self.asked.append(trial)
        return Credentials(f"key-{len(self.asked)}", "secret", "token", self.now, self.now + LIFE)

    def clock(self) -> float:
        return self.now


class Full(DirectoryStore):
    def put(self, key: str, data: bytes) -> None:
        raise OSError("no room")


def grants(folder: Path) -> tuple[Grants, Issuer]:
    issuer = Issuer()
    return Grants(DirectoryStore(folder), "s", issuer.assume, issuer.clock), issuer


def kept(folder: Path, trial: int) -> str:
    data = DirectoryStore(folder).get(credentials_key("s", trial))
    return decode_credentials(data).access_key if data else ""


def test_due_at_half_of_their_life_and_new_ones_lie_in_the_store(tmp_path: Path) -> None:
    held, issuer = grants(tmp_path)
    assert held.issue(3).access_key == "key-1"
    assert not held.due(3)
    issuer.now += LIFE / 2 - 1
    assert not held.due(3)
    issuer.now += 2
    assert held.due(3)
    assert kept(tmp_path, 3) == ""
    held.renew(3)
    assert kept(tmp_path, 3) == "key-2"
    assert not held.due(3)
    held.revoke(3)
    assert kept(tmp_path, 3) == ""


def test_what_could_not_be_put_is_renewed_at_the_next_try(tmp_path: Path) -> None:
    held, issuer = grants(tmp_path)
    held.issue(3)
    issuer.now += LIFE / 2 + 1
    held.store = Full(tmp_path)
    with pytest.raises(OSError, match="no room"):
        held.renew(3)
    assert held.due(3)
    held.store = DirectoryStore(tmp_path)
    held.renew(3)
    assert not held.due(3)


def test_a_job_that_was_there_already_has_the_keys_it_was_made_with(tmp_path: Path) -> None:
    held, issuer = grants(tmp_path)
    held.issue(3)
    held.adopted(3, {EXPIRE: f"{issuer.now + LIFE / 2:.0f}"})
    issuer.now += LIFE / 2
    assert held.ended(3)


def test_a_pod_that_waited_for_too_long_has_nothing_to_begin_with(tmp_path: Path) -> None:
    held, issuer = grants(tmp_path)
    held.issue(3)
    issuer.now += LIFE - MARGIN - 1
    assert not held.ended(3)
    issuer.now += 2
    assert held.ended(3)


def test_the_next_controller_knows_them_by_the_job(tmp_path: Path) -> None:
    """It cannot know whether they were renewed: it does so at once, unless they are of no use any more."""
    held, issuer = grants(tmp_path)
    assert not held.due(3)
    assert not held.ended(3)
    held.known(3, {EXPIRE: f"{issuer.now + LIFE:.0f}"})
    assert not held.ended(3)
    assert not held.due(4)
    held.known(4, {})  # a Job without temporary keys
    assert not held.due(4)


def test_the_end_of_an_attempt_takes_nothing_from_the_next_one(tmp_path: Path) -> None:
    held, issuer = grants(tmp_path)
    held.issue(3)
    held.issue(3)  # the next attempt's, made in the same pass
    held.revoke(3)
    issuer.now += LIFE * 0.6
    assert held.due(3)
