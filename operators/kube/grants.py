"""What agents may do in the store: temporary credentials for one trial each, renewed before they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from operators.attempt import credentials_key
from operators.s3_credentials import Credentials, encode_credentials
from operators.store import Store

EXPIRE = "abohb.dev/credentials-expire"  # annotation of a Job: unix seconds
FOREVER = float("inf")
MARGIN = 300.0  # seconds before the end in which credentials are good for nothing new


@dataclass
class Grants:
    """Issues and renews. `assume` asks the store's STS for a trial's keys."""

    store: Store
    study: str
    assume: Callable[[int], Credentials]
    life: float  # seconds that they are asked for
    _expire: dict[int, float] = field(default_factory=dict, init=False)  # by trial

    def issue(self, trial: int) -> Credentials:
        """For a Job that is about to be made."""
        granted = self.assume(trial)
        self._expire[trial] = granted.expires or FOREVER
        return granted

    def known(self, trial: int, annotations: Mapping[str, str]) -> None:
        """Those of a Job that an earlier controller made."""
        self._expire.setdefault(trial, float(annotations.get(EXPIRE, FOREVER)))

    def due(self, trial: int, now: float) -> bool:
        """Whether half of their life is over."""
        return self._expire.get(trial, FOREVER) - now < self.life / 2

    def ended(self, trial: int, now: float) -> bool:
        """Whether a pod that begins now could do nothing with them."""
        return self._expire.get(trial, FOREVER) - now < MARGIN

    def renew(self, trial: int) -> None:
        """The agent finds the new ones in the store, with the old ones."""
        granted = self.assume(trial)
        self.store.put(credentials_key(self.study, trial), encode_credentials(granted))
        self._expire[trial] = granted.expires or FOREVER

    def revoke(self, trial: int) -> None:
        """Its attempt has ended."""
        if self._expire.pop(trial, None) is not None:
            self.store.delete(credentials_key(self.study, trial))
