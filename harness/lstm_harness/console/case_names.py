"""What a table calls its cases: what they all have in common is said once, below it."""

from collections.abc import Sequence


def shared_words(labels: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The words that every label has, and each label without them.

    With one label, or where nothing would be left of one, they stay as they are.
    """
    words = {label: label.split() for label in labels}
    common = [
        word
        for word in next(iter(words.values()), [])
        if all(word in own for own in words.values())
    ]
    short = {
        label: " ".join(word for word in own if word not in common) for label, own in words.items()
    }
    if len(labels) < 2 or not all(short.values()):
        return "", {label: label for label in labels}
    return " ".join(common), short
