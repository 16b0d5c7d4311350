"""Trains a multi-layer perceptron on the handwritten digits that come with scikit-learn.

One epoch is one `partial_fit` pass over COPIES distorted copies of the training images. Run it by hand with
`python train.py`; a study runs it with the hyper-parameters of a trial (docs/trial-contract.md).
"""

import pickle
import warnings
from pathlib import Path

import numpy as np
from abohb_trial import Trial
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

COPIES = 16
DEFAULTS = {
    "activation": "relu",
    "alpha": 1e-4,
    "batch_size": 64,
    "layers": 1,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "noise": 0.1,
    "width": 64,
}


def thirds():
    """(images, labels) to train with, to choose by and to test with: each third has all digits alike."""
    images, labels = load_digits(return_X_y=True)
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_digit = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [(images[part] / 16, labels[part]) for part in (by_digit[0::3], by_digit[1::3], by_digit[2::3])]


def build(config):
    return MLPClassifier(
        hidden_layer_sizes=(config["width"],) * config["layers"],
        activation=config["activation"],
        solver="sgd",
        alpha=config["alpha"],
        batch_size=config["batch_size"],
        learning_rate_init=config["learning_rate"],
        momentum=config["momentum"],
        random_state=np.random.RandomState(0),  # an object, not a number: its state is part of the checkpoint
    )


def distorted(images, noise, random):
    """COPIES of the images, each moved by up to one pixel, with Gaussian noise of that standard deviation."""
    copies = np.tile(np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1))), (COPIES, 1, 1))
    rows, columns = random.randint(0, 3, size=(2, len(copies), 1, 1))
    image, pixel = np.arange(len(copies))[:, None, None], np.arange(8)
    moved = copies[image, rows + pixel[:, None], columns + pixel]
    return moved.reshape(-1, 64) + random.normal(0, noise, size=(len(copies), 64))


def error(model, images, labels):
    return np.mean(model.predict(images) != labels)


def main():
    trial = Trial(defaults=DEFAULTS, epochs=5)
    (images, labels), validation, test = thirds()
    if trial.checkpoint:
        model = pickle.loads(Path(trial.checkpoint, "model.pickle").read_bytes())
    else:
        model = build(trial.config)
    warnings.simplefilter("ignore", RuntimeWarning)  # too large a learning rate overflows: that is a result
    for _ in trial.epochs():
        seen = distorted(images, trial.config["noise"], model.random_state)
        model.partial_fit(seen, np.tile(labels, COPIES), classes=np.arange(10))
        file = trial.checkpoint_path("model.pickle")
        Path(file).write_bytes(pickle.dumps(model))
        trial.report(
            val_error=error(model, *validation),
            test_error=error(model, *test),  # shown, never used to choose
            train_loss=model.loss_,
            checkpoint=Path(file).parent,
        )


if __name__ == "__main__":
    main()
