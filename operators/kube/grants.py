"""What agents may do in the store: temporary credentials for one trial each, renewed before they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from operators.attempt import credentials_key
from operators.s3_credentials import Credentials, encode_credentials
from operators.store import Store
from operators.sts import due

EXPIRE = "abohb.dev/credentials-expire"  # annotation of a Job: unix seconds
FOREVER = float("inf")
MARGIN = 300.0  # seconds before the end in which credentials are good for nothing new


@dataclass
class Grants:
    """Issues and renews. `assume` asks the store's STS for a trial's keys."""

    store: Store
    study: str
    assume: Callable[[int], Credentials]
    clock: Callable[[], float] = time.time
    _held: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)  # by trial: from, until
    _renewed: set[int] = field(default_factory=set, init=False)  # trials whose keys lie in the store

    def issue(self, trial: int) -> Credentials:
        """For a Job that is about to be made."""
        granted = self.assume(trial)
        self._hold(trial, granted)
        return granted

    def known(self, trial: int, annotations: Mapping[str, str]) -> None:
        """Those of a Job that an earlier controller made: renewed soon, for it may have done so or not."""
        if trial not in self._held:
            self.adopted(trial, annotations)

    def adopted(self, trial: int, annotations: Mapping[str, str]) -> None:
        """A Job has these, whatever was issued for the trial since."""
        self._held[trial] = (0.0, float(annotations.get(EXPIRE, FOREVER)))

    def due(self, trial: int) -> bool:
        """Whether half of their life is over."""
        issued, expires = self._held.get(trial, (0.0, FOREVER))
        return expires != FOREVER and due(expires, issued, self.clock())

    def ended(self, trial: int) -> bool:
        """Whether a pod that begins now could do nothing with them."""
        return self._held.get(trial, (0.0, FOREVER))[1] - self.clock() < MARGIN

    def renew(self, trial: int) -> None:
        """The agent finds the new ones in the store, with the old ones."""
        granted = self.assume(trial)
        self._renewed.add(trial)
        self.store.put(credentials_key(self.study, trial), encode_credentials(granted))
        self._hold(trial, granted)  # only now: what could not be put is due as it was

    def revoke(self, trial: int) -> None:
        """Its attempt has ended: what lies in the store goes."""
        if trial in self._renewed:
            self._renewed.discard(trial)
            self.store.delete(credentials_key(self.study, trial))

    def _hold(self, trial: int, granted: Credentials) -> None:
        self._held[trial] = (granted.issued or self.clock(), granted.expires or FOREVER)
