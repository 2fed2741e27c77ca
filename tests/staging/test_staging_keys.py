"""File names for keys."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.keys import TEMPORARY, check_key, file_name

KEYS = st.text(st.characters(), min_size=1)
NASTY = st.text(st.sampled_from("./%#~\0 \n2Fé"), min_size=1, max_size=8)


@given(KEYS | NASTY)
def test_a_file_name_is_one_plain_part_of_a_path(key):
    check_key(key)
    name = file_name(key)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\0 ")
    assert not name.startswith(".")
    assert not name.startswith(TEMPORARY)
    assert len(name) <= 255


@given(st.sets(NASTY, min_size=2, max_size=20))
def test_no_two_keys_share_a_name(keys):
    assert len({file_name(key) for key in keys}) == len(keys)


def test_short_keys_can_be_read():
    assert file_name("snapshot/0/7") == "snapshot%2F0%2F7.safetensors"


def test_long_keys_keep_their_beginning():
    first, second = file_name("long key " * 1000 + "a"), file_name("long key " * 1000 + "b")
    assert first.startswith("long%20key")
    assert first != second
    assert len(first) < 200


@given(st.text("ab", min_size=190, max_size=300))
def test_a_key_that_looks_like_a_hashed_name_is_kept_apart(key):
    assert file_name(file_name(key).removesuffix(".safetensors")) != file_name(key) or len(key) <= 200


@pytest.mark.parametrize("wrong", [1, None, b"bytes", ["a"]])
def test_only_str(wrong):
    with pytest.raises(TypeError, match=type(wrong).__name__):
        check_key(wrong)


def test_not_empty():
    with pytest.raises(ValueError, match="empty"):
        check_key("")


@given(st.sets(KEYS | NASTY | st.text("aA/%.#é\ud800", min_size=1, max_size=250), min_size=2, max_size=20))
def test_no_two_keys_of_any_length_share_a_name(keys):
    assert len({file_name(key) for key in keys}) == len(keys)


ESCAPES = st.lists(st.sampled_from(["..", ".", "/", "//", "x", "\0", "~", "\n", "%2F", "%2e", "\\", "tmp"]), min_size=1)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ESCAPES.map("".join) | ESCAPES.map("/".join) | KEYS)
def test_no_key_leaves_the_staging_folder(tmp_path, key):
    """By a real client, on a real folder: all that it writes is one file inside."""
    folder = tmp_path / "deep" / "er" / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    with DataStore("client", ServerInfo("filesystem", "run", "ready", address={"folder": str(folder)})) as store:
        store.stage_write(key, 1)
        [written] = [path for path in tmp_path.rglob("*") if not path.is_dir()]
        assert written == folder / file_name(key)
        assert store.stage_read(key) == 1
        assert store.clean_staged_data(key)
        assert not any(path.is_file() for path in tmp_path.rglob("*"))
