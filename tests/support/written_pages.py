"""What a page says and draws, from its HTML alone."""

import json
import re


def plots_of(html):
    """What `lines.js` is given to draw."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(text)


def text_of(html):
    """The text that a reader sees, its white space single."""
    body = html.partition("</main>")[0].partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())
