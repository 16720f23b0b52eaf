"""Words of CMUdict and their pronunciations: those that `g2p` learns from, and held-out ones.

Some of its names come from other languages, and one word in nine has a second pronunciation.
"""

import zlib

from lstm_harness.worker.workloads.installed import folder

LETTERS = range(2, 9)
# One word in twenty is held out; this many of these are evaluated.
HELD_OUT_ONE_IN, SAMPLE = 20, 1000
NO_STRESS = str.maketrans("", "", "012")
# The pronunciations of a word.
Ways = list[tuple[str, ...]]


def dictionary() -> dict[str, Ways]:
    """Words of 2 to 8 letters a to z, and their pronunciations, without stress."""
    text = (folder("cmudict") / "data" / "cmudict.dict").read_text("utf-8")
    said: dict[str, Ways] = {}
    for line in text.splitlines():
        # A second pronunciation is listed as "word(2)"; some lines end in a comment.
        spelling, _, names = line.partition(" ")
        word = spelling.partition("(")[0]
        if len(word) in LETTERS and word.isascii() and word.isalpha():
            way = tuple(names.partition(" #")[0].translate(NO_STRESS).split())
            if way not in said.setdefault(word, []):
                said[word].append(way)
    return said


def split(said: dict[str, Ways]) -> tuple[dict[str, Ways], dict[str, Ways]]:
    """Words to learn from, and a sample of the others; only the letters of a word decide."""
    numbers = {word: zlib.crc32(word.encode()) for word in said}
    learnt = {word: said[word] for word in said if numbers[word] % HELD_OUT_ONE_IN}
    unseen = sorted(said.keys() - learnt.keys(), key=numbers.__getitem__)
    return learnt, {word: said[word] for word in unseen[:SAMPLE]}
