"""Jobs and pods, gathered by attempt."""

from dataclasses import dataclass, field
from typing import Any

from operators.kube.settings import ATTEMPT, STUDY, TRIAL
from operators.kube.watch import Snapshot
from operators.kube.world import World

Json = dict[str, Any]


@dataclass
class Watched:
    """What a Watcher knows, put there by the test."""

    objects: dict[str, Json] = field(default_factory=dict)
    gone: dict[str, Json] = field(default_factory=dict)
    silent: float = 0.0

    def snapshot(self) -> Snapshot:
        return Snapshot(dict(self.objects), dict(self.gone))

    def away(self) -> tuple[float, str]:
        return self.silent, "no route"

    def forget(self, uids: list[str]) -> None:
        for uid in uids:
            self.gone.pop(uid, None)


def thing(name: str, trial: int, attempt: int) -> Json:
    labels = {STUDY: "s", TRIAL: str(trial), ATTEMPT: str(attempt)}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}, "status": {}}


def world() -> tuple[World, Watched, Watched]:
    jobs, pods = Watched(), Watched()
    return World(jobs, pods), jobs, pods  # type: ignore[arg-type]


def test_by_attempt_with_what_is_gone() -> None:
    seen, jobs, pods = world()
    jobs.objects = {"a": thing("a", 0, 1), "b": thing("b", 1, 2)}
    pods.objects = {"a-x": thing("a-x", 0, 1)}
    pods.gone = {"uid-b-x": thing("b-x", 1, 2), "uid-c-x": thing("c-x", 2, 1)}
    found = seen.objects()
    assert sorted(found) == [(0, 1), (1, 2), (2, 1)]
    assert [len(found[key].pods) for key in sorted(found)] == [1, 1, 1]
    assert found[0, 1].gone == frozenset()
    assert found[1, 2].gone == {"uid-b-x"}
    assert [found[key].removed for key in sorted(found)] == [False, False, True]


def test_what_has_not_changed_is_the_same_object() -> None:
    seen, jobs, pods = world()
    jobs.objects = {"a": thing("a", 0, 1), "b": thing("b", 1, 1)}
    before = seen.objects()
    jobs.objects["b"] = thing("b", 1, 1)
    pods.objects["b-x"] = thing("b-x", 1, 1)
    after = seen.objects()
    assert after[0, 1] is before[0, 1]
    assert after[1, 1] is not before[1, 1]
    pods.gone["uid-b-x"] = pods.objects.pop("b-x")  # the very same pod, but gone
    assert seen.objects()[1, 1].gone == {"uid-b-x"}


def test_things_of_others_are_none_of_ours_and_forgotten_ones_do_not_come_back() -> None:
    seen, jobs, pods = world()
    jobs.gone = {"uid-a": thing("a", 0, 1)}
    pods.gone = {"uid-a-x": thing("a-x", 0, 1), "uid-b-x": thing("b-x", 1, 1)}
    pods.objects = {"strange": {"metadata": {"name": "strange", "uid": "u", "labels": {STUDY: "s"}}}}
    assert sorted(seen.objects()) == [(0, 1), (1, 1)]
    seen.forget({(0, 1)})
    assert sorted(seen.objects()) == [(1, 1)]


def test_silence_is_the_longer_one() -> None:
    seen, jobs, pods = world()
    jobs.silent, pods.silent = 3.0, 40.0
    assert seen.quiet == 40.0
