"""Training code's side of the trial contract (docs/trial-contract.md), in one file without dependencies.

from abohb_trial import Trial

trial = Trial(defaults={"lr": 0.01}, epochs=3)      # both only matter when you run it by hand
model = load(trial.checkpoint) if trial.checkpoint else build(trial.config["lr"])
for epoch in trial.epochs():
    loss = train_one_epoch(model)
    path = trial.checkpoint_path()                  # a fresh name for this epoch
    save(model, path)
    trial.report(val_error=loss, checkpoint=path)
"""

import json
import os
import tempfile


class Trial:
    """This process as a trial. Without $ABOHB_TRIAL_DIR it runs by itself and prints what it reports."""

    def __init__(self, defaults=None, epochs=1):
        self.dir = os.environ.get("ABOHB_TRIAL_DIR", "")
        self.by_hand = not self.dir
        if self.by_hand:
            self.dir = _by_hand(epochs)
        about = self._read("config.json")
        self.config = dict(defaults or {})  # the values of the hyper-parameters, by name
        self.config.update(about["hyperparameters"])
        self.study, self.id, self.attempt = about["study"], about["trial"], about["attempt"]
        self.resource = about["resource"]  # the name of what `epochs` counts
        self.start = about["from"]  # that much is in the checkpoint; 0 without one
        checkpoint = os.path.join(self.dir, "checkpoint")
        self.checkpoint = checkpoint if os.path.isdir(checkpoint) else None  # noqa: PTH112
        self._epoch, self._reported = self.start, self.start

    def epochs(self):
        """The epochs to run: from + 1, ... until the order is met. Call report() once in each."""
        while True:
            order = self._read("order.json")  # it may have changed: read again after each report
            if order["stop"] or self._reported >= order["until"]:
                return
            self._epoch = self._reported + 1
            yield self._epoch
            if self._reported != self._epoch:
                raise RuntimeError(
                    f"{self.resource} {self._epoch} ended without trial.report(...): "
                    "call it once in each turn of the loop"
                )

    def report(self, checkpoint=None, **metrics):
        """Tell the metrics of this epoch and, once it is completely written, the path of its checkpoint.

        From then on the checkpoint belongs to the agent, which moves it away.
        """
        if self._reported == self._epoch:
            raise RuntimeError("call trial.report(...) once in each turn of `for epoch in trial.epochs():`")
        line = {self.resource: self._epoch}
        line.update((name, float(value)) for name, value in metrics.items())
        if checkpoint is not None:
            line["checkpoint"] = os.path.relpath(os.fspath(checkpoint), self.dir)
        text = json.dumps(line) + "\n"
        file = os.open(os.path.join(self.dir, "metrics.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, text.encode())  # one write: the agent never sees half a line for long
        finally:
            os.close(file)
        self._reported = self._epoch
        if self.by_hand:
            print(text, end="", flush=True)

    def checkpoint_path(self, name=None):
        """A fresh directory for this epoch's checkpoint; with `name`, the path of a file in it."""
        folder = os.path.join(self.dir, f"checkpoint-{self._epoch}")
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        return os.path.join(folder, name) if name else folder

    def _read(self, name):
        with open(os.path.join(self.dir, name)) as file:
            return json.load(file)


def _by_hand(epochs):
    folder = tempfile.mkdtemp(prefix="abohb-trial-")
    about = {"study": "by hand", "trial": 0, "attempt": 1, "hyperparameters": {}}
    about.update({"resource": "epoch", "from": 0})
    for name, value in (("config.json", about), ("order.json", {"until": epochs, "stop": False})):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(value, file)
    print("no ABOHB_TRIAL_DIR: running by hand in " + folder, flush=True)
    return folder


def __getattr__(name):
    """`from abohb_trial import trial`: made when first asked for."""
    if name != "trial":
        raise AttributeError(name)
    globals()["trial"] = made = Trial()
    return made
