"""What a page that needs nothing else is held to, and what is in it."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Notes the tags of a page, its words and pictures with their texts, and whatever could load something."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.texts, self.open, self.words = set(), [], [], [], []
        self.headings = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.texts += [dict(attrs).get("alt")] if tag == "img" else []
        self.words += [""] if tag == "pre" else []  # a command, whose words are elements of their own
        if tag not in ("meta", "img", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == "rect" or self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            self.words[-1] += data
        elif data.strip():
            self.words.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self.open[-1], data))

    @property
    def pictures(self) -> list[Image.Image]:
        return [picture(source) for source in self.sources]


def picture(source: str) -> Image.Image:
    """Return the picture that an address holds."""
    found = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True)))
    found.load()
    return found


def read(text: str) -> Page:
    """Return what is in a page, which is whole, loads nothing, and has a text for each picture."""
    page = Page(text)
    assert page.open == [] and not page.tags & {"script", "link", "iframe", "object"}
    assert all(source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for source in page.sources)
    assert all(page.texts) and "http:" not in text and "https:" not in text and "url(" not in text
    assert [level for level, _ in page.headings].count("h1") == 1
    assert all(min(found.size) for found in page.pictures)
    return page
