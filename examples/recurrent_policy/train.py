"""Trains the policy of this example by PPO, and writes policy.safetensors beside itself: a minute.

pip install fusedcell[torch] gymnasium safetensors tqdm
python examples/recurrent_policy/train.py [--torch | --compare]

--torch trains with PyTorch's modules, for which a loop over the steps begins the episodes, and writes nothing.
--compare times rollouts and updates of both in turns, the updates on the same rollouts, and writes nothing.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from run import ENVIRONMENT, POLICY, positions
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import trange

import fusedcell.torch as ft

sys.path.insert(0, str(Path(__file__).parents[1]))
from _training import print_ratio

UNITS = 64
ENVIRONMENTS, STEPS, ROLLOUTS = 16, 128, 150
EPOCHS, MINIBATCHES = 4, 4
RATE = 2e-3
DISCOUNT, TRACE, CLIP = 0.99, 0.95, 0.2
VALUE_WEIGHT, ENTROPY_WEIGHT, MOST_NORM = 0.5, 0.01, 0.5
REWARD = 0.1  # a step: returns are then of the size of what else the loss has
COMPARED = 20  # rollouts


class Policy(nn.Module):
    """Logits of the actions, and how much is still to come, of what was seen of an episode so far."""

    def __init__(self, modules: ModuleType) -> None:
        """`modules` is fusedcell.torch, or torch.nn, whose GRU has no `resets=`."""
        super().__init__()
        self.takes_resets = modules is ft
        self.gru = modules.GRU(2, UNITS)
        self.actor, self.critic = modules.Linear(UNITS, 2), modules.Linear(UNITS, 1)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                for part in parameter.chunk(3 if "gru" in name else 1):  # a gate's
                    nn.init.zeros_(part) if "bias" in name else nn.init.orthogonal_(part)
            self.actor.weight *= 0.01

    def forward(self, x: Tensor, h: Tensor, resets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (T, B, 2), values (T, B) and h, of x (T, B, 2), h (1, B, UNITS) and where episodes begin (T, B)."""
        if self.takes_resets and len(x) > 1:
            y, h = self.gru(x, h, resets=resets)
        else:
            steps = []
            for x_t, begins in zip(x, resets, strict=True):
                step, h = self.gru(x_t[None], h * ~begins[:, None])
                steps.append(step)
            y = torch.cat(steps)
        return self.actor(y), self.critic(y)[..., 0], h


class Rollout(NamedTuple):
    """All but h (1, B, UNITS), the state before the first step, are (T, B) or (T, B, 2)."""

    h: Tensor
    x: Tensor
    resets: Tensor
    counts: Tensor  # false where the environment left out the action, to begin a new episode
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor


class Learner:
    """PPO (Schulman et al. 2017, arXiv:1707.06347) in environments that go on from rollout to rollout."""

    def __init__(self, modules: ModuleType) -> None:
        torch.manual_seed(0)
        self.policy = Policy(modules)
        self.optimiser = torch.optim.Adam(self.policy.parameters(), RATE, eps=1e-5)
        self.random = torch.Generator().manual_seed(1)
        self.environments = gym.make_vec(ENVIRONMENT, ENVIRONMENTS, vectorization_mode="vector_entry_point")
        self.x = positions(self.environments.reset(seed=2)[0])
        self.h = torch.zeros(1, ENVIRONMENTS, UNITS)
        self.begins, self.over = np.ones(ENVIRONMENTS, bool), np.zeros(ENVIRONMENTS, bool)
        self.scores = np.zeros(ENVIRONMENTS)
        self.finished: list[float] = []  # returns of the last rollout's episodes

    def rollout(self) -> Rollout:
        h, self.finished, steps = self.h, [], []
        for _ in range(STEPS):
            x, begins, over = torch.from_numpy(self.x), self.begins, self.over
            with torch.no_grad():
                logits, value, self.h = self.policy(x[None], self.h, torch.from_numpy(begins)[None])
            log_probabilities = logits[0].log_softmax(-1)
            action = torch.multinomial(log_probabilities.exp(), 1, generator=self.random)
            observation, reward, failed, cut, _ = self.environments.step(action[:, 0].numpy())
            # The step after an episode's last one shows what that led to, so its value is what a cut episode misses.
            # Its action is left out, and the observation that comes of it begins the next episode.
            self.x, self.begins, self.over = positions(observation), over, failed | cut
            chosen = log_probabilities.gather(-1, action)[:, 0]
            told = (torch.from_numpy(part) for part in (REWARD * reward, ~failed, ~self.over))
            steps.append((x, torch.from_numpy(begins), torch.from_numpy(~over), action[:, 0], chosen, value[0], *told))
            self.scores += reward
            self.finished += self.scores[self.over].tolist()
            self.scores[self.over] = 0
        x, resets, counts, actions, log_probabilities, values, rewards, lives, goes_on = map(
            torch.stack, zip(*steps, strict=True)
        )
        with torch.no_grad():
            next_value = self.policy(torch.from_numpy(self.x)[None], self.h, torch.from_numpy(self.begins)[None])[1]
        differences = rewards + DISCOUNT * lives * torch.cat((values[1:], next_value)) - values
        advantages = torch.zeros(STEPS + 1, ENVIRONMENTS)
        for t in reversed(range(STEPS)):
            advantages[t] = differences[t] + DISCOUNT * TRACE * goes_on[t] * advantages[t + 1]
        advantages = advantages[:-1]
        return Rollout(h, x, resets, counts, actions, log_probabilities, advantages, advantages + values)

    def update(self, rollout: Rollout) -> None:
        for _ in range(EPOCHS):
            for rows in torch.randperm(ENVIRONMENTS, generator=self.random).chunk(MINIBATCHES):
                part = Rollout(*(each[:, rows] for each in rollout))
                logits, values, _ = self.policy(part.x, part.h, part.resets)
                log_probabilities = logits.log_softmax(-1)
                chosen = log_probabilities.gather(-1, part.actions[..., None])[..., 0]
                ratio = (chosen - part.log_probabilities).exp()
                std, mean = torch.std_mean(part.advantages[part.counts])
                advantages = (part.advantages - mean) / (std + 1e-8)
                gain = torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
                entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
                loss = VALUE_WEIGHT * (values - part.returns).square() - gain - ENTROPY_WEIGHT * entropy
                self.optimiser.zero_grad()
                loss[part.counts].mean().backward()
                nn.utils.clip_grad_norm_(self.policy.parameters(), MOST_NORM)
                self.optimiser.step()


def train(modules: ModuleType) -> Policy:
    learner = Learner(modules)
    schedule = torch.optim.lr_scheduler.LinearLR(learner.optimiser, 1.0, 0.0, ROLLOUTS)
    for _ in (progress := trange(ROLLOUTS, unit="rollout")):
        learner.update(learner.rollout())
        schedule.step()
        if learner.finished:
            progress.set_postfix({"mean return": f"{np.mean(learner.finished):.0f}"})
    return learner.policy


def compare() -> None:
    learners = [Learner(modules) for modules in (nn, ft)]
    seconds = np.empty((2, COMPARED, 2))  # of rollouts and of updates, by PyTorch and by fusedcell
    for n in trange(COMPARED, unit="rollout"):
        learners[0].policy.load_state_dict(learners[1].policy.state_dict())
        for which, learner in enumerate(learners):
            begin = process_time()
            rollout = learner.rollout()
            seconds[0, n, which] = process_time() - begin
        for which, learner in enumerate(learners):
            begin = process_time()
            learner.update(rollout)
            seconds[1, n, which] = process_time() - begin
    print_ratio("updates a second", seconds[1], EPOCHS * MINIBATCHES)
    print_ratio("frames a second, rollouts alone", seconds[0], ENVIRONMENTS * STEPS)
    print_ratio("frames a second, with updates", seconds.sum(axis=0), ENVIRONMENTS * STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--torch", action="store_true", help="train with PyTorch's modules, and write nothing")
    group.add_argument("--compare", action="store_true", help="time PyTorch's modules and fusedcell's in turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.compare:
        compare()
        return
    weights = train(nn if arguments.torch else ft).state_dict()
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values()))
    print("SHA-256 of the weights:", digest.hexdigest())
    if not arguments.torch:
        save_file({name: value for name, value in weights.items() if "critic" not in name}, POLICY)


if __name__ == "__main__":
    main()
