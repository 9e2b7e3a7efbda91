"""Balances CartPole-v1's pole without knowing any velocity, by the policy of train.py, and says how well and how fast.

python examples/recurrent_policy/run.py [--episodes N] [--check]

NumPy, Gymnasium, safetensors and fusedcell do; PyTorch is compared with if it is installed. --check fails if the mean
return is below what Gymnasium calls solved, or if a logit in float32 is not that of the formulas in float64, never
because of a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

import fusedcell as fc

ENVIRONMENT = "CartPole-v1"
POLICY = Path(__file__).parent / "policy.safetensors"
LIMITS = np.float32([2.4, np.pi / 15])  # of the cart's position, m, and of the pole's angle; an episode ends beyond
SEED = 100  # of the first episode
TOLERANCE = 1e-5  # of float32's logits, from those in float64

Array = NDArray[np.float32]
Step = Callable[[Array], Array]


def positions(observation: Array) -> Array:
    """The cart's and the pole's, as shares of their limits, without the velocities."""
    return observation[..., ::2] / LIMITS


def model_of(weights: dict[str, Array]) -> fc.Model:
    """Positions in, logits of a push to the left and to the right out."""
    actor = fc.Dense(weights["actor.weight"], weights["actor.bias"])
    return fc.Model([("gru", fc.GRU.from_state_dict(weights, "gru."), "x"), ("logits", actor, "gru")])


def exact(weights: dict[str, Array], x: Array) -> NDArray[np.float64]:
    """Logits (T, 2) by the formulas in float64."""
    y, _ = fc.reference.gru(x, weights, prefix="gru.")
    return y @ weights["actor.weight"].T.astype(np.float64) + weights["actor.bias"]


def torch_policy(weights: dict[str, Array]) -> Callable[[], Step] | None:
    """What begins an episode of PyTorch's modules, or None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    units = weights["actor.weight"].shape[1]
    gru, actor = torch.nn.GRU(2, units), torch.nn.Linear(units, 2)
    both = torch.nn.ModuleDict({"gru": gru, "actor": actor})
    both.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def begin() -> Step:
        h = None

        @torch.inference_mode()
        def step(x: Array) -> Array:
            nonlocal h
            y, h = gru(torch.from_numpy(x)[None], h)
            return actor(y)[0].numpy()

        return step

    return begin


def play(environment: gym.Env, seed: int, steps: list[Step]) -> tuple[Array, Array, NDArray[np.float64]]:
    """An episode in which the first of the policies chooses and the others are asked the same.

    Returns what was seen (T, 2), the logits (T, policies, 2), and the median us of a step of each policy.
    """
    observation, _ = environment.reset(seed=seed)
    rows, over = [], False
    while not over:
        x, logits, ns = positions(observation), [], []
        for step in steps:
            begin = perf_counter_ns()
            logits.append(step(x))
            ns.append(perf_counter_ns() - begin)
        rows.append((x, logits, ns))
        observation, _, failed, cut, _ = environment.step(int(logits[0].argmax()))
        over = failed or cut
    x, logits, ns = (np.array(part) for part in zip(*rows, strict=True))
    return x, logits, np.median(ns, axis=0) / 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50, help="to play in each type (50)")
    parser.add_argument("--check", action="store_true", help="fail if the policy is worse than it should be")
    arguments = parser.parse_args()

    weights, environment = load_file(POLICY), gym.make(ENVIRONMENT)
    theirs, solved, failures = torch_policy(weights), environment.spec.reward_threshold, []
    print(f"{arguments.episodes} episodes; the highest return is 500, and a mean of {solved:g} is called solved\n")
    print(f"{'':20}{'mean return':>12}{'lowest':>8}{'us a step':>11}{'bytes':>9}{'largest dlogit':>16}")
    for dtype in ("float32", "float16", "int8"):
        model = model_of(weights).astype(dtype)
        others = [theirs] if theirs and dtype == "float32" else []
        games = [
            play(environment, SEED + n, [model.stream().step, *(begin() for begin in others)])
            for n in range(arguments.episodes)
        ]
        returns = np.array([len(x) for x, _, _ in games])
        off = np.max([np.abs(logits - exact(weights, x)[:, None]).max(axis=(0, 2)) for x, logits, _ in games], axis=0)
        us = np.array([times for _, _, times in games])
        print(f"{'fusedcell, ' + dtype:20}{returns.mean():12.1f}{returns.min():8}{np.median(us[:, 0]):11.2f}", end="")
        print(f"{model.nbytes:9,}{off[0]:16.1e}")
        if others:
            low, ratio, high = np.percentile(us[:, 1] / us[:, 0], (10, 50, 90))
            apart = max(float(np.abs(logits[:, 0] - logits[:, 1]).max()) for _, logits, _ in games)
            print(f"{'PyTorch, float32':40}{np.median(us[:, 1]):11.2f}{'':9}{off[1]:16.1e}", end="")
            print(f"   {ratio:.0f} ({low:.0f}..{high:.0f}) times as long, logits at most {apart:.1e} apart")
        if returns.mean() < solved:
            failures.append(f"{dtype}: a mean return of {returns.mean():.1f}, less than {solved:g}")
        if dtype == "float32" and off[0] > TOLERANCE:
            failures.append(f"a logit is off by {off[0]:.1e}")
    if arguments.check and failures:
        print("failed: " + "; ".join(failures), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
