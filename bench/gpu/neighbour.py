"""Keeps a GPU busy for a while, as another job on the same card would: big matrix products without a pause.

    python3 bench/gpu/neighbour.py --seconds 15 --gib 4

Needs PyTorch. Prints ``busy`` once it is, and at the end one JSON object with what it did.
"""

import argparse
import json
import time

import torch  # type: ignore[import-not-found]  # not one of our dependencies

_SIDE = 8192
_AT_ONCE = 4
"""Products between two looks at the clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--gib", type=float, default=4.0, help="memory to hold besides")
    arguments = parser.parse_args()
    held = torch.empty(int(arguments.gib * 2**30), dtype=torch.uint8, device="cuda")
    one = torch.randn(_SIDE, _SIDE, dtype=torch.float16, device="cuda")
    _multiply(one)  # loads the library
    print("busy", flush=True)
    began, products = time.monotonic(), 0
    while (took := time.monotonic() - began) < arguments.seconds:
        _multiply(one)
        products += _AT_ONCE
    flops = 2 * _SIDE**3 * products / took
    print(json.dumps({"seconds": took, "flops": flops, "held_bytes": held.numel()}), flush=True)


def _multiply(one: "torch.Tensor") -> None:
    for _ in range(_AT_ONCE):
        torch.mm(one, one)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
