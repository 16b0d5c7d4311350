"""What is known of the objects of one kind, from lists and watch events alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Cache:
    """An object is gone when a list that was read whole lacks it, or an event says so, and never else.

    Objects are replaced, not changed.
    """

    objects: dict[str, Json] = field(default_factory=dict)  # by name
    gone: dict[str, Json] = field(default_factory=dict)  # by uid: the last that was known
    version: str = ""  # resourceVersion up to which all is known; "": nothing is, and a list is needed

    def listed(self, objects: Iterable[Json], version: str) -> bool:
        """A list that was read to its end. Whether it told us anything new."""
        found = {name_of(one): self._same(one) for one in objects}
        lost = [one for name, one in self.objects.items() if uid_of(found.get(name)) != uid_of(one)]
        self.gone.update((uid_of(one), one) for one in lost)
        news = bool(lost) or any(one is not self.objects.get(name) for name, one in found.items())
        self.objects, self.version = found, version
        self._alive(found.values())
        return news

    def _same(self, thing: Json) -> Json:
        """The one we have, if nothing has changed: others compare by identity."""
        known = self.objects.get(name_of(thing))
        unchanged = (uid_of(known), version_of(known)) == (uid_of(thing), version_of(thing))
        return known if known is not None and unchanged else thing

    def told(self, kind: str, thing: Json) -> bool:
        """One event of a watch, other than ERROR. Whether it told us anything new."""
        self.version = version_of(thing)
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return False  # BOOKMARK, and whatever may come to be
        name, known = name_of(thing), self.objects.get(name_of(thing))
        if known is not None and uid_of(known) != uid_of(thing):
            self.gone[uid_of(known)] = known
        if kind == "DELETED":
            self.objects.pop(name, None)
            self.gone[uid_of(thing)] = thing
        else:
            self.objects[name] = thing
            self._alive([thing])
        return True

    def _alive(self, things: Iterable[Json]) -> None:
        """Also what our selector had lost sight of, and sees again."""
        for thing in things:
            self.gone.pop(uid_of(thing), None)


def name_of(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def uid_of(thing: Json | None) -> str:
    return str(thing["metadata"].get("uid", "")) if thing is not None else ""


def version_of(thing: Json | None) -> str:
    return str(thing["metadata"].get("resourceVersion", "")) if thing is not None else ""
