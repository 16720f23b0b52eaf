"""What was made of weights is made again exactly where they changed."""

import gc

import torch

from lstm_kernels.common.kept_copies import KeptCopies
from lstm_kernels.stack import Weights


class Counting:
    """Keeps numbers, in place of copies, and counts how many it made."""

    def __init__(self, most=16):
        self.made = 0
        self._kept = KeptCopies(most)

    def get(self, weights, settings=None, *, look=False):
        return self._kept.get((weights,), settings, self._make, look=look)

    def _make(self):
        self.made += 1
        return self.made


def weights():
    return Weights(torch.randn(8, 3), torch.randn(8, 2), torch.randn(8), torch.randn(8))


def test_made_once_for_weights_and_whatever_is_the_same_memory():
    given, counting = weights(), Counting()
    aliases = Weights._make(None if t is None else t.detach() for t in given)
    found = {counting.get(one, look=True) for one in (given, aliases, given)}
    assert found | {counting.get(aliases)} == {1}


def test_made_again_after_a_counted_change_of_any_and_for_other_settings():
    given, counting = weights(), Counting()
    counting.get(given)
    for number, tensor in enumerate(given[:4], 2):
        tensor.add_(1)
        assert counting.get(given) == number
    assert counting.get(given, "other") == 6


def test_an_uncounted_change_is_seen_where_it_looks():
    given, counting = weights(), Counting()
    changes = [
        lambda: given.w_hh.data.neg_(),
        lambda: given.w_ih.data.copy_(given.w_ih.data.flip(0)),
        lambda: given.w_ih.data.copy_(given.w_ih.data.flip(1)),
        lambda: given.b_hh.numpy().__setitem__(3, 0.25),
        lambda: given.w_hh.data.view(-1)[5:6].mul_(1.001),
        # A sum of its elements would round the second away.
        lambda: given.b_ih.data[0].fill_(-1e9),
        lambda: given.b_ih.data[5].add_(3.0),
    ]
    counting.get(given, look=True)
    for number, change in enumerate(changes, 2):
        change()
        assert counting.get(given) == number - 1, "the count tells nothing"
        assert counting.get(given, look=True) == number


def test_what_was_never_looked_at_is_made_anew_for_the_first_look():
    given, counting = weights(), Counting()
    assert [counting.get(given, look=look) for look in (False, True, True, False)] == [1, 2, 2, 2]


def test_what_is_not_finite_hides_no_change():
    given, counting = weights(), Counting()
    given.w_hh[0, 0] = float("nan")
    assert [counting.get(given, look=True) for _ in range(2)] == [1, 1]
    given.w_hh.data[0, 1] += 1
    assert counting.get(given, look=True) == 2


def test_what_is_not_counted_is_made_each_time():
    with torch.inference_mode():
        given, counting = weights(), Counting()
        assert [counting.get(given) for _ in range(2)] == [1, 2]


def test_other_weights_in_the_memory_of_those_that_are_gone_are_others():
    counting = Counting()
    memory = torch.zeros(14, 8)
    numbers = set()
    for _ in range(4):
        memory.random_()
        # Owners one after another of one memory, none of which was ever changed.
        given = Weights(*(torch.from_numpy(part.numpy()) for part in memory.split([3, 2, 4, 5])))
        numbers.add(counting.get(given))
        del given
        gc.collect()
    assert numbers == {1, 2, 3, 4}


def test_it_keeps_no_more_than_so_many_and_nobodys_memory():
    counting, several = Counting(most=2), [weights() for _ in range(3)]
    assert [counting.get(each) for each in several] == [1, 2, 3]
    assert [counting.get(each) for each in reversed(several)] == [3, 2, 4]
    place = several[0].w_ih.untyped_storage()
    from torch.multiprocessing.reductions import StorageWeakRef

    watched = StorageWeakRef(place)
    del place, several
    gc.collect()
    assert watched.expired()
