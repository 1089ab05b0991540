"""Train a small network on scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels in ten classes.

It runs alone (`python train.py --lr 0.1`) and in a sweep. What farmx needs from it are the lines with `logx`.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

from farmx.logx import logx

BATCH = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.1, help="step size of gradient descent")
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--epochs", type=int, default=15, help="how often every image is seen")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the order of the images")
    parser.add_argument("--nesterov", action="store_true", help="momentum with Nesterov's correction")
    return parser.parse_args()


def load():
    """(images, labels) to train on and (images, labels) to validate on, the same ones for every seed."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order] / 16.0, labels[order]
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def start(hidden, seed):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(0, 0.2, (64, hidden)),
        "b1": np.zeros(hidden),
        "w2": rng.normal(0, 0.2, (hidden, 10)),
        "b2": np.zeros(10),
    }


def forward(net, images):
    """The hidden layer and the probability of each class, a row an image."""
    hidden = np.maximum(0, images @ net["w1"] + net["b1"])
    scores = np.exp((logits := hidden @ net["w2"] + net["b2"]) - logits.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients(net, images, labels):
    hidden, error = forward(net, images)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    below = error @ net["w2"].T * (hidden > 0)
    return {"w1": images.T @ below, "b1": below.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}


def train(net, speed, images, labels, args, epoch):
    """One epoch of gradient descent with momentum, changing `net` and `speed`."""
    order = np.random.default_rng([args.seed, epoch]).permutation(len(images))  # the same after a restart
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        for name, slope in gradients(net, images[batch], labels[batch]).items():
            speed[name] = 0.9 * speed[name] - args.lr * slope
            net[name] = net[name] + (0.9 * speed[name] - args.lr * slope if args.nesterov else speed[name])


def measure(net, images, labels):
    _, chances = forward(net, images)
    right = chances[np.arange(len(labels)), labels]
    return {"loss": float(-np.log(right + 1e-12).mean()), "acc": float((chances.argmax(axis=1) == labels).mean())}


def main():
    args = arguments()
    logx.initialize(coolname=True)  # in a sweep it knows its directory; alone it makes a new one, with a cool name
    seen, unseen = load()
    net = start(args.hidden, args.seed)
    speed = {name: np.zeros_like(value) for name, value in net.items()}
    done = 0
    if checkpoint := logx.resume():  # an earlier attempt of this run got somewhere
        net, speed, done = checkpoint["net"], checkpoint["speed"], checkpoint["epoch"]
    for epoch in range(done + 1, args.epochs + 1):
        train(net, speed, *seen, args, epoch)
        logx.metric("train", measure(net, *seen), epoch)
        logx.metric("val", found := measure(net, *unseen), epoch)
        logx.msg(f"epoch {epoch}: val loss {found['loss']:.4f}, acc {found['acc']:.4f}")
        logx.save_model({"net": net, "speed": speed, "epoch": epoch}, metric=found["acc"], epoch=epoch)


if __name__ == "__main__":
    main()
