import pytest

from fmawsss.files.fingerprints import differing_keys, fingerprint, flatten

SETTINGS = {
    "crop": {"layers": 1, "overlap": 0.25},
    "offsets": [0, 0, 0.1],
    "filter": None,
    "name": "vit_h",
    "fast": True,
}


def test_flatten_gives_dotted_keys_and_is_idempotent() -> None:
    flat = flatten(SETTINGS)
    assert flat == {
        "crop.layers": 1, "crop.overlap": 0.25, "offsets.0": 0, "offsets.1": 0, "offsets.2": 0.1,
        "filter": None, "name": "vit_h", "fast": True,
    }  # fmt: skip
    assert flatten(flat) == flat
    assert flatten({"empty": {}, "none": [], "word": ""}) == {"empty": {}, "none": [], "word": ""}
    assert flatten({}) == {}


def test_fingerprint_is_a_short_stable_hash() -> None:
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2d"
    assert fingerprint(flatten(SETTINGS)) == fingerprint(SETTINGS)


@pytest.mark.parametrize(
    ("left", "right"),
    [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": (1, 2)}, {"a": [1, 2]}), ({"a": 1}, {"a": 1.0})],
)
def test_equal_settings_have_equal_fingerprints(left: dict, right: dict) -> None:
    assert fingerprint(left) == fingerprint(right)
    assert differing_keys(left, right) == []


@pytest.mark.parametrize(
    ("left", "right", "keys"),
    [
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": "1"}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({"a": []}, {"a": {}}, ["a"]),
        ({"a": [1, 2]}, {"a": [2, 1], "b": {"c": 0.5}}, ["a.0", "a.1", "b.c"]),
    ],
)
def test_different_settings_differ_by_key(left: dict, right: dict, keys: list[str]) -> None:
    assert fingerprint(left) != fingerprint(right)
    assert differing_keys(left, right) == keys


def test_values_without_a_canonical_form_are_refused() -> None:
    with pytest.raises(ValueError, match=r"setting 'model\.0' is a object.*resolve the config"):
        flatten({"model": [object()]})
    with pytest.raises(ValueError, match="bytes"):
        flatten({"raw": b"x"})
    with pytest.raises(ValueError, match=r"two values under 'a\.b'"):
        flatten({"a.b": 1, "a": {"b": 2}})


def test_hydra_configs_flatten_as_they_are() -> None:
    from omegaconf import OmegaConf

    assert fingerprint(OmegaConf.create(SETTINGS)) == fingerprint(SETTINGS)
