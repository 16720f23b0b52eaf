"""A training script as people write them: it tags sequences of different lengths.

What it prints would show whether anything looked on: the loss, the next random number, the
arguments, where it runs and where its imports come from.

    python packed_program.py [--epochs N] [--end CODE]
    python packed_program.py --large [--backend NAME]       prints the time of an epoch alone
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LENGTHS = ((9, 7, 6, 4, 2), (12, 8, 8, 3, 1), (12, 11, 10, 9, 9))
FEATURES, CLASSES = 6, 3


class Tagger(nn.Module):
    def __init__(self, hidden, layers, **backend):
        super().__init__()
        lstm = layers.LSTM(FEATURES, hidden, 2, bidirectional=True, **backend)
        self.encoder = nn.ModuleDict({"rnn": lstm})
        self.summary = layers.GRU(2 * hidden, hidden, batch_first=True, bias=False, **backend)
        self.classes = nn.Linear(hidden, CLASSES)

    def forward(self, x, lengths):
        y, _ = self.encoder["rnn"](pack_padded_sequence(x, torch.tensor(lengths)))
        padded, _ = pad_packed_sequence(y)
        y, _ = self.summary(input=padded.transpose(0, 1))
        return self.classes(y[:, -1])


def batches(generator, scale=1):
    """Inputs, lengths and classes, of T 9 and 12 and five sequences, or so many times as many."""
    for few in LENGTHS:
        lengths = sorted((scale * each for each in few * scale), reverse=True)
        x = torch.randn(max(lengths), len(lengths), FEATURES, generator=generator)
        yield x, lengths, torch.randint(CLASSES, (len(lengths),), generator=generator)


def tagger_of(asked, hidden):
    if not asked.backend:
        return Tagger(hidden, nn)
    import lstm_kernels as lk

    return Tagger(hidden, lk, backend=asked.backend)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--end", type=int, default=0)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--backend")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scale, hidden = (8, 128) if asked.large else (1, 8)
    tagger, generator = tagger_of(asked, hidden), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(tagger.parameters(), lr=0.1)
    loss, times_s = torch.zeros(()), []
    for _ in range(asked.epochs):
        began = time.perf_counter()
        for x, lengths, classes in batches(generator, scale):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(tagger(x, lengths), classes)
            loss.backward()
            optimizer.step()
        times_s.append(time.perf_counter() - began)
    if asked.large:
        sys.stdout.write(f"{median(times_s[1:] or times_s)}\n")
        return
    with torch.no_grad():
        tagger(*next(batches(generator))[:2])
    paths = [path for path in sys.path if not path.startswith("__editable__")]
    told = loss.item(), torch.rand(1).item(), sys.argv[1:], str(Path.cwd()), paths
    sys.stdout.write(f"{told}\n")
    sys.exit(asked.end)


if __name__ == "__main__":
    main()
