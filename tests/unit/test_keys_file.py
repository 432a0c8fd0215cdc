"""The file of keys: what is refused in a sentence without a key in it, and what is let in."""

from __future__ import annotations

import hmac
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.api.keys import Keys
from tapeline.model.errors import UsageError

ANNA = "2b7e151628aed2a6abf7158809cf4f3c"
BERTA = "Zm9vYmFyYmF6cXV4Zm9vYg+/=="
OTHER = "8d969eef6ecad3c29a3a629280e686cf"
DAY_S = 86_400


class Clock:
    """A clock that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def write(file: Path, text: str | bytes, mode: int = 0o600) -> Path:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    file.chmod(mode)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def refusal(file: Path) -> str:
    with pytest.raises(UsageError) as raised:
        Keys(file)
    sentence = str(raised.value)
    assert raised.value.exit_code == 2
    assert "TAPELINE_API__KEYS_FILE" in sentence
    assert "\n" not in sentence
    return sentence


def test_a_line_is_a_key_or_a_name_and_a_key(file: Path) -> None:
    keys = Keys(write(file, f"\ufeff# who may read\r\n\n  anna:{ANNA}  # since May\n{BERTA}"))

    assert keys.name_of(ANNA) == "anna"
    assert keys.name_of(BERTA) == "line 4"
    assert keys.name_of(OTHER) is None
    assert keys.name_of("") is None
    assert keys.name_of(f"anna:{ANNA}") is None


def test_one_name_may_have_an_old_key_and_a_new_one(file: Path) -> None:
    keys = Keys(write(file, f"anna:{ANNA}\nanna:{OTHER}"))
    assert [keys.name_of(key) for key in (ANNA, OTHER)] == ["anna", "anna"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no key: write one a line; `openssl rand -hex 24` makes one."),
        ("# nobody\n\n", "holds no key"),
        ("abc", "Line 1 of the file that TAPELINE_API__KEYS_FILE names: a key has 22 characters"),
        (f"{ANNA}\nanna:{OTHER[:21]}", "Line 2 of the file"),
        (f"{ANNA}:anna", "a key has 22 characters at least"),
        ("anna:", "a key has letters, digits and . _ ~ + / - only"),
        (f"{ANNA} {OTHER}", "a key has letters, digits"),
        (f"anna:schlüssel{ANNA}", "a key has letters, digits"),
        (f"anna b:{ANNA}", "a name, up to the colon, has 1 to 32 letters, digits"),
        (f":{ANNA}", "a name, up to the colon"),
        (f"{'a' * 33}:{ANNA}", "a name, up to the colon"),
        (f"anna:{ANNA}\n# again\nberta:{ANNA}", "Line 3 of the file that"),
        (b"\xff\xfe" + ANNA.encode("utf-16-le"), "names no file of keys (it is not in UTF-8)"),
    ],
)
def test_what_is_no_file_of_keys_is_refused_without_showing_any(
    file: Path, text: str | bytes, said: str
) -> None:
    sentence = refusal(write(file, text))
    assert said in sentence
    shown = re.findall(r"[0-9a-zA-Z]{6,}", sentence)
    assert [part for part in shown if part in ANNA + OTHER] == []


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666, 0o601])
def test_a_file_that_everyone_may_use_is_refused(file: Path, mode: int) -> None:
    sentence = refusal(write(file, ANNA, mode))
    assert (
        sentence == "Everyone may use the file that TAPELINE_API__KEYS_FILE names: `chmod 600` it."
    )


def test_a_group_may_read_it(file: Path) -> None:
    """As a file of secrets that is mounted into a container has it."""
    assert Keys(write(file, ANNA, 0o440)).name_of(ANNA) == "line 1"


def test_a_key_in_the_place_of_the_files_name_is_not_shown(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refusal(Path(ANNA))
    assert "names no file of keys (No such file or directory): give one" in sentence
    assert ANNA[:6] not in sentence
    assert "(Is a directory)" in refusal(tmp_path)
    assert "(there is no such user)" in refusal(Path("~nobody-of-this-name/keys"))
    assert "(it is no regular file)" in refusal(Path("/dev/null"))


def test_a_changed_file_is_read_again_after_a_second(file: Path) -> None:
    clock = Clock()
    keys = Keys(write(file, f"anna:{ANNA}"), clock)
    write(file, f"berta:{BERTA}")

    clock.now_s += 0.9
    assert keys.name_of(ANNA) == "anna"
    clock.now_s += 0.2
    assert keys.name_of(ANNA) is None
    assert keys.name_of(BERTA) == "berta"


@pytest.mark.parametrize("wrong", ["", "short", None])
def test_a_file_that_cannot_be_used_any_more_leaves_the_keys_and_is_logged(
    file: Path, capsys: pytest.CaptureFixture[str], wrong: str | None
) -> None:
    clock = Clock()
    keys = Keys(write(file, f"anna:{ANNA}"), clock)
    if wrong is None:
        file.unlink()
    else:
        write(file, wrong)
    for _ in range(3):
        clock.now_s += 2
        assert keys.name_of(ANNA) == "anna"
    shown = "".join(capsys.readouterr())
    assert shown.count("api_keys_unchanged") == 1

    write(file, f"berta:{BERTA}")
    clock.now_s += 2
    assert keys.name_of(ANNA) is None
    assert keys.name_of(BERTA) == "berta"


def test_a_session_lasts_seven_days_or_as_long_as_its_key(file: Path) -> None:
    clock = Clock()
    keys = Keys(write(file, f"anna:{ANNA}\nberta:{BERTA}"), clock)
    assert keys.open_session(OTHER, 5) is None
    session = keys.open_session(ANNA, 5.5)
    assert session is not None

    assert keys.name_of_session(session, 5) == "anna"
    assert keys.name_of_session(session, 7 * DAY_S + 4.9) == "anna"
    assert keys.name_of_session(session, 7 * DAY_S + 5) is None

    end, signature = session.split(".")
    by_hand = hmac.new(sha256(ANNA.encode()).digest(), f"tapeline session {end}".encode(), sha256)
    assert (end, signature) == ("604805", by_hand.hexdigest())

    later = Keys(file)
    assert later.name_of_session(session, 5) == "anna"  # a start of the API ends none
    write(file, f"berta:{BERTA}")
    clock.now_s += 2
    assert keys.name_of_session(session, 5) is None


def test_nothing_made_from_a_session_is_one(file: Path) -> None:
    keys = Keys(write(file, f"anna:{ANNA}"))
    session = keys.open_session(ANNA, 0)
    assert session is not None
    end, signature = session.split(".")
    wrong = [
        "",
        ".",
        session[:-1],
        f"{int(end) + 1}.{signature}",
        f"0{end}.{signature}",
        f"{end}.{'0' * 64}",
        f"{end}.{signature.upper()}",
        f"{end}.{signature}\n",
        f"{end}.{sha256(ANNA.encode()).hexdigest()}",
        ANNA,
    ]
    assert [text for text in wrong if keys.name_of_session(text, 0)] == []
    assert keys.name_of(session) is None


names = st.text("abcXYZ019._-", min_size=1, max_size=8)
alphabet = "abcdefABCDEF0123456789._~+/-"
some_keys = st.lists(
    st.text(alphabet, min_size=22, max_size=40), min_size=1, max_size=6, unique=True
)


@given(some_keys, st.data())
def test_no_other_key_is_ever_let_in(tmp_path_factory, known, data) -> None:
    """Whatever is given: any text, or a key that is cut, longer, in another case, or changed."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    keys = Keys(write(file, "\n".join(known)))
    key = data.draw(st.sampled_from(known))
    place = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.sampled_from(alphabet))
    near = [key[:place], key + letter, key[:place] + letter + key[place + 1 :], key.swapcase()]
    given_key = data.draw(st.sampled_from(near) | st.text())

    assert keys.name_of(key) is not None
    assert (keys.name_of(given_key) is not None) == (given_key in known)
    assert keys.name_of_session(given_key, 0) is None
    os.unlink(file)  # noqa: PTH108 - many examples, one folder each
