"""The frozen values: how metrics are called, and which way of one is better."""

from pathlib import Path

import pytest

from farmx.spec import LOSS_LIKE, Goal, goal_of, metric_name

FULL = {
    "acc": "val/acc",
    "val/acc": "val/acc",
    "test/acc": "val/acc",
    "validation/acc": "val/acc",
    "validate/acc": "val/acc",
    "trn/loss": "train/loss",
    "training/loss": "train/loss",
    "train/loss": "train/loss",
    "dev/acc": "dev/acc",
    "Test/acc": "Test/acc",  # logx knows no such phase
    "test/top/5": "val/top/5",
    "top/5": "top/5",
    "test": "val/test",
    "test_acc": "val/test_acc",
    "start/x": "start/x",
    "": "val/",
    "/": "/",
    "it's $HOME; größe": "val/it's $HOME; größe",
}


@pytest.mark.parametrize(("name", "full"), FULL.items())
def test_a_metric_is_known_by_the_phase_that_logx_gives_it(name, full):
    assert metric_name(name) == full
    assert metric_name(full) == full


SMALLER = [
    *["loss", "LOSS", "Loss", "loss1", "loss.total", "total.loss", "train/loss.ce", "trn/loss", "valLoss", "testloss"],
    *["l1loss", "losses", "logloss", "log_loss", "top1-loss", "MSELoss", "lossTotal", "lossless_loss", "my loss (ce)"],
    *["err", "errs", "error", "errors", "error_rate", "errorRate", "error-rate", "top1err", "err@5", "L1Err"],
    *["ppl", "PPL", "val_ppl", "perplexity", "perplexities", "nll", "NLL", "nll/token", "testNLL", "crossentropy"],
    *["cross_entropy", "crossEntropy", "binary_crossentropy", "bce", "ce", "mse", "valMSE", "val_mses", "MSEs", "mae"],
    *["rmse", "rmse_x", "x.rmse", "wer", "WER%", "cer", "testwer", "fid", "FID50k", "fid_50k", "regret", "cost", "ece"],
    *["valmse", "trainerror", "err/top1", "loss/train", "größe_err"],
]
LARGER = [
    *["acc", "accuracy", "val/acc", "train/acc", "top/5", "score", "f1", "mAP", "auc", "bleu", "reward", "iou", "psnr"],
    *["lossless_acc", "lossless", "terror", "terrors", "mirror", "errand", "concert", "power", "fidelity", "costume"],
    *["ace", "acer", "R2", "precision", "", "$HOME; 'x'", "größe"],
]


@pytest.mark.parametrize(("name", "mode"), [*((each, "min") for each in SMALLER), *((each, "max") for each in LARGER)])
def test_which_way_is_better_goes_by_the_name(name, mode):
    assert goal_of(name) == Goal(metric_name(name), mode)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_whoever_says_which_way_is_better_is_believed(mode):
    assert [goal_of(name, mode) for name in ("loss", "test/acc")] == [Goal("val/loss", mode), Goal("val/acc", mode)]


@pytest.mark.parametrize(
    ("mode", "value", "best", "better"),
    [
        ("max", 1.0, None, True),
        ("max", 2.0, 1.0, True),
        ("max", 1.0, 1.0, False),
        ("min", 1.0, 2.0, True),
        ("min", 1.0, 1.0, False),
        ("max", float("nan"), None, False),
        ("min", float("nan"), 1.0, False),
        ("max", float("inf"), 1.0, True),
    ],
)
def test_better_is_strictly_so_and_no_number_never_is(mode, value, best, better):
    assert Goal("val/x", mode).better(value, best) == better


def test_the_documentation_names_every_word_that_means_smaller():
    text = (Path(__file__).parent.parent / "docs/sumx.md").read_text()
    assert [word for word in LOSS_LIKE if f"`{word}`" not in text and word != "perplexities"] == []
