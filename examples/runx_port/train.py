"""A script written for runx. Ported by the one line marked below; its sweep.yml and .runx are as they were."""

import argparse

import numpy as np

from farmx.logx import logx  # was: from runx.logx import logx

parser = argparse.ArgumentParser(description="Logistic regression on two clouds of points")
parser.add_argument("--logdir", type=str, default=None, help="where to save checkpoints and logs")
parser.add_argument("--arch", type=str, default="linear", choices=["linear", "square"])
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--standardize", action="store_true", default=False)
args = parser.parse_args()


def make_data(number, seed):
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, 2, number)
    points = rng.randn(number, 2) * (1 + labels[:, None]) + labels[:, None]
    if args.standardize:
        points = (points - points.mean(0)) / points.std(0)
    if args.arch == "square":
        points = np.hstack([points, points**2])
    return np.hstack([points, np.ones((number, 1))]), labels


def predict(weights, points):
    return 1.0 / (1.0 + np.exp(-points @ weights))


def main():
    logx.initialize(logdir=args.logdir, coolname=True, tensorboard=True, hparams=vars(args))
    logx.msg(f"arguments: {args}")

    points, labels = make_data(500, seed=0)
    val_points, val_labels = make_data(500, seed=1)
    weights = np.zeros(points.shape[1])

    for epoch in range(args.epochs):
        error = predict(weights, points) - labels
        weights -= args.lr * points.T @ error / len(labels)
        logx.add_scalar("train/error", np.abs(error).mean(), epoch)

        chances = predict(weights, val_points)
        accuracy = ((chances > 0.5) == val_labels).mean()
        loss = -np.log(np.where(val_labels, chances, 1 - chances)).mean()
        logx.metric(phase="val", metrics={"loss": loss, "accuracy": accuracy}, epoch=epoch)

        save_dict = {"epoch": epoch + 1, "arch": args.arch, "state_dict": {"weights": weights.tolist()}}
        logx.save_model(save_dict, metric=float(accuracy), epoch=epoch, higher_better=True)
        logx.msg(f"epoch {epoch} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
