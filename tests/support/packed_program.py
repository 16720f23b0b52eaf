"""A training script as people write them: it tags every step of sequences of different lengths.

What is printed at its end would show whether anything looked on: the loss, the next random number,
the arguments, where it runs and where its imports come from.

    python packed_program.py [--epochs N] [--end CODE]
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LENGTHS = ((9, 7, 6, 4, 2), (12, 8, 8, 3, 1), (12, 11, 10, 9, 9))
FEATURES, HIDDEN, CLASSES = 6, 8, 3


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True)})
        self.summary = nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True, bias=False)
        self.classes = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
        y, _ = self.encoder["rnn"](pack_padded_sequence(x, torch.tensor(lengths)))
        padded, _ = pad_packed_sequence(y)
        y, _ = self.summary(input=padded.transpose(0, 1))
        return self.classes(y[:, -1])


def batches(generator: torch.Generator):
    for lengths in LENGTHS:
        x = torch.randn(max(lengths), len(lengths), FEATURES, generator=generator)
        yield x, lengths, torch.randint(CLASSES, (len(lengths),), generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--end", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tagger, generator = Tagger(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(tagger.parameters(), lr=0.1)
    loss = torch.zeros(())
    for _ in range(asked.epochs):
        for x, lengths, classes in batches(generator):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(tagger(x, lengths), classes)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        tagger(*next(batches(generator))[:2])
    paths = [path for path in sys.path if not path.startswith("__editable__")]
    told = loss.item(), torch.rand(1).item(), sys.argv[1:], str(Path.cwd()), paths
    sys.stdout.write(f"{told}\n")
    sys.exit(asked.end)


if __name__ == "__main__":
    main()
