from __future__ import annotations

import json
import re

import pytest

from asgi_obs.redaction.escapes import BEHIND_ESCAPE, without_colours


@pytest.mark.parametrize("escape", [r"\n", r"\t", r"\r\n", r"\x01", r"\u00e9", "%22", "%3D"])
def test_a_word_begins_behind_an_escape(escape: str) -> None:
    assert re.search(f"(?:{BEHIND_ESCAPE})word", f"a{escape}word") is not None


@pytest.mark.parametrize("text", ["aword", r"\qword", "%2word", "x01word"])
def test_it_does_not_begin_behind_anything_else(text: str) -> None:
    assert re.search(f"(?:{BEHIND_ESCAPE})word", text) is None


@pytest.mark.parametrize("written", [str, repr, json.dumps, lambda text: json.dumps(json.dumps(text))])
def test_colours_are_taken_out_however_they_are_written(written: object) -> None:
    assert callable(written)
    assert without_colours(written("\x1b[1;36mkey\x1b[0m=5")) == written("key=5")


def test_other_brackets_stay() -> None:
    assert without_colours("[0m] x[1]") == "[0m] x[1]"
