"""A program that knows nothing of farmx: it reads its arguments and prints. Newton's iteration for a square root."""

import argparse

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--of", type=float, required=True)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--note", default="")
args = parser.parse_args()

guess = args.of
for step in range(args.steps):
    guess = (guess + args.of / guess) / 2
    print(f"step {step + 1}: {guess!r}", flush=True)
print(args.note)
