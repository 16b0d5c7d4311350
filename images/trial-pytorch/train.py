"""Trains a small convolutional network on scikit-learn's handwritten digits, on a GPU where there is one."""

import argparse
import random

import numpy as np
import torch
from abohb_trial import Trial
from sklearn.datasets import load_digits
from torch import cuda, nn, optim
from torch.utils.data import DataLoader

DEFAULTS = {"alpha": 1e-4, "batch_size": 64, "learning_rate": 0.05, "momentum": 0.9, "width": 64}


def main(amp, workers):
    trial = Trial(DEFAULTS, epochs=5)
    config, device = argparse.Namespace(**trial.config), "cuda" if cuda.is_available() else "cpu"
    digits, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    data, order = list(zip(digits.float().view(-1, 1, 8, 8) / 16, labels, strict=True)), torch.Generator()
    # Not persistent: workers draw from `order` when they start, which a pause would make other epochs do.
    batches = DataLoader(data[0::3], config.batch_size, shuffle=True, generator=order, num_workers=workers)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(256, config.width), nn.ReLU(), nn.Linear(config.width, 10),
    ).to(device)  # fmt: skip
    weights = model.parameters()
    optimiser = optim.SGD(weights, config.learning_rate, config.momentum, weight_decay=config.alpha)
    schedule = optim.lr_scheduler.ExponentialLR(optimiser, 0.95)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    state = {name: (part.state_dict, part.load_state_dict) for name, part in parts.items()} | {
        "python": (random.getstate, random.setstate), "numpy": (np.random.get_state, np.random.set_state),
        "torch": (torch.get_rng_state, torch.set_rng_state), "order": (order.get_state, order.set_state),
        "cuda": (cuda.get_rng_state_all, cuda.set_rng_state_all),
    }  # fmt: skip
    if trial.checkpoint:  # map_location: random states belong on the CPU
        saved = torch.load(f"{trial.checkpoint}/state.pt", map_location="cpu", weights_only=False)
        for name, (_, put_back) in state.items():
            put_back(saved[name])
    for _ in trial.epochs():
        for x, y in batches:
            x = x.roll(torch.randint(-1, 2, (2,)).tolist(), (2, 3))  # moved by up to a pixel
            with torch.autocast(device, torch.bfloat16, enabled=amp):
                loss = nn.functional.cross_entropy(model.train()(x.to(device)), y.to(device))
            optimiser.zero_grad(), loss.backward(), optimiser.step()
        schedule.step()
        x, y = (torch.stack(part).to(device) for part in zip(*data[1::3], strict=True))
        error = (model.eval()(x).argmax(1) != y).float().mean()
        torch.save({name: take() for name, (take, _) in state.items()}, trial.checkpoint_path("state.pt"))
        trial.report(val_error=error, train_loss=loss, checkpoint=trial.checkpoint_path())


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--amp", action="store_true", help="mixed precision, in bfloat16")
    options.add_argument("--workers", type=int, default=2, help="processes that load data into /dev/shm")
    main(**vars(options.parse_args()))
