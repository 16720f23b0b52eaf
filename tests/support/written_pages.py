"""What a page says and draws, from its HTML alone."""

import base64
import json
import re
import zlib


def unpacked(text):
    """What `payload.packed` packed."""
    return zlib.decompress(base64.b64decode(text)).decode()


def plots_of(html):
    """What `lines.js` is given to draw."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(text)


def text_of(html):
    """The text that a reader sees, its white space single."""
    body = html.partition("</main>")[0].partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())
