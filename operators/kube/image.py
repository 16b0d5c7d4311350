"""One image for a whole study: its tag is resolved once, to the digest that the first pod ran."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from operators.codec import dumps
from operators.store import Store

Key = tuple[int, int]  # (trial, attempt)


@dataclass
class PinnedImage:
    """Until the digest is known one attempt scouts, and the others wait for it.

    An image that has no repository digest, as it was loaded onto the nodes, is run by its tag; what ran is
    compared then, and a difference reported.
    """

    store: Store
    study: str
    image: str  # as the study names it
    made_of: str = ""  # what else makes the pods what they are: command, settings
    notes: list[str] = field(default_factory=list)
    works: bool = field(default=False, init=False)  # training code of a pod has run
    _reference: str = field(default="", init=False)  # what pods run
    _ran: str = field(default="", init=False)  # the image id of the first pod
    _scout: Key | None = field(default=None, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        if "@sha256:" in self.image:
            self._reference = self.image
        if (data := self.store.get(self._key)) is not None:
            document = json.loads(data)
            if _of_image(document["reference"], self.image):  # else of one that was never asked for
                self._reference, self._ran = document["reference"], document["ran"]
                self.works = self.store.get(self._proof) is not None

    @property
    def _key(self) -> str:
        return f"{self.study}/images/{hashlib.sha256(self.image.encode()).hexdigest()[:16]}.json"

    @property
    def _proof(self) -> str:
        """Of pods as they are made now: with another command or patch they may be wrong after all."""
        made = hashlib.sha256(self.made_of.encode()).hexdigest()[:16]
        return self._key.replace(".json", f"-works-{made}.json")

    def reference(self, attempt: Key) -> str:
        """What this attempt shall run; "" while it has to wait for the scout."""
        if self._reference:
            return self._reference
        self._scout = self._scout or attempt
        return self.image if self._scout == attempt else ""

    def worked(self) -> None:
        """The training code of a pod has run."""
        if not self.works:
            self.store.put_once(self._proof, b"{}")
            self.works = True

    def saw(self, attempt: Key, image_id: str) -> None:
        """A pod has this image, by the kubelet's word."""
        if not self._ran:
            self._settle(image_id)
        elif _digest(image_id) != _digest(self._ran) and image_id not in self._told:
            self._told.add(image_id)
            self.notes.append(
                f"trial {attempt[0]} ran {image_id}, the first trial {self._ran}: nodes hold different "
                f"images under {self.image}. Push it to a registry, or name it by its digest."
            )

    def ended(self, attempt: Key) -> None:
        """A scout that ended without having run: another one may try."""
        if self._scout == attempt:
            self._scout = None

    def _settle(self, image_id: str) -> None:
        reference = self._reference or pinned(self.image, image_id)
        document = {"image": self.image, "reference": reference, "ran": image_id}
        if not self.store.put_once(self._key, dumps(document)):
            earlier = json.loads(self.store.get(self._key) or dumps(document))  # a controller before us
            document = earlier if _of_image(earlier["reference"], self.image) else document
        self._reference, self._ran = document["reference"], document["ran"]


def pinned(image: str, image_id: str) -> str:
    """`image` by the digest that ran; by its tag, when that digest is of no repository of this name.

    >>> pinned("registry.example/digits:1.0", "registry.example/digits@sha256:ab")
    'registry.example/digits@sha256:ab'
    >>> pinned("digits:1.0", "sha256:ab")
    'digits:1.0'
    """
    repository, at, digest = image_id.rpartition("://")[2].partition("@")
    name = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
    return f"{name}@{digest}" if at and _full(repository) == _full(name) else image


def _of_image(reference: str, image: str) -> bool:
    """Whether it is the image itself, or a digest of its repository."""
    return reference == pinned(image, reference) or reference == image


def _full(name: str) -> str:
    """`digits` and `docker.io/library/digits` are one repository."""
    host, slash, _ = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        name = f"docker.io/{name}"
    return (
        name.replace("docker.io/", "docker.io/library/")
        if name.count("/") == 1 and name.startswith("docker.io/")
        else name
    )


def _digest(image_id: str) -> str:
    return image_id.rpartition("@")[2]
