"""Text out of tokens as they come: whole characters only, control tokens left out."""

import codecs


class TextStream:
    """Turns token ids into pieces of text that, put together, are the text of all the ids.

    Control tokens (end of text, those of turns) are left out; <ref>, <box> and <quad> tags stay. Bytes are held back
    until their character is complete, an image's path until it is closed. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._held = []
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, ids):
        """The text that further token ids complete; may be empty."""
        self._held += [i for i in ids if not self._tokenizer.is_control(i)]
        closed = max((n for n, i in enumerate(self._held) if i == self._tokenizer.image_end), default=-1) + 1
        opened = next((n for n, i in enumerate(self._held) if i == self._tokenizer.image_start and n >= closed),
                      len(self._held))
        complete, self._held = self._held[:opened], self._held[opened:]
        return self._decoder.decode(self._tokenizer.decode_bytes(complete))

    def end(self):
        """What was held back when no more ids come."""
        held, self._held = self._held, []
        return self._decoder.decode(self._tokenizer.decode_bytes(held), final=True)
