"""JSON is read strictly, and stays the text that it was."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from cbmdhi.protocol import json_text

TEXT = '{"resourceType":"Observation","status":"final","code":{"text":"Müller"}}'


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (TEXT.encode("latin-1"), "not UTF-8 at byte 64: save it as UTF-8 (it may be Latin-1)"),
        (TEXT.encode("utf-16"), "byte order mark of UTF-16"),
        (TEXT.encode("utf-16-le"), "NUL at byte 1: save it as UTF-8 (it may be UTF-16)"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "byte order mark of UTF-8: save it as UTF-8 without one"),
        (TEXT.replace("Müller", "\\ud83d").encode(), "half a character"),
        (TEXT.replace("Müller", "\\u0000").encode(), "the character NUL"),
        (TEXT.replace('"final"', '"final","status":"entered-in-error"').encode(), "property `status` twice"),
        (b'{"Ann Smith":1,"Ann Smith":2}', "a property twice"),
        (TEXT.encode() + b"\n" + TEXT.encode(), "more after its end, at line 2, column 1"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b'{"a":1e400}', "out of range"),
        (b'{"a":' + b"9" * 5_000 + b"}", "out of range"),
        (b'{"a":1e-99999999999999999999}', "out of range"),
        (b'{"a":01}', "not JSON at line 1, column 7"),
        (b"<Observation/>", "is XML"),
        (b"{'a':1}", "not JSON at line 1, column 2"),
        (b'{"a":"\x01"}', "not JSON at line 1, column 7"),
        (b"[" * 65 + b"]" * 65, "deeper than 64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64 levels"),
        (b"[" * 100_000, "deeper than 64 levels"),
    ],
)
def test_what_programs_read_differently_is_a_sentence_without_a_value(raw: bytes, said: str) -> None:
    with pytest.raises(json_text.NotJson) as caught:
        json_text.parse(raw)
    assert said in str(caught.value)
    assert not any(value in str(caught.value) for value in ("Ann", "final", "ller", "entered"))


def test_every_digit_of_a_number_is_there_after_reading_and_writing() -> None:
    raw = b'{"a":1.10,"b":12345678901234567890,"c":-0,"d":0.10000000000000000555111512312,"e":1E+2,"f":-0.0}'
    found = json_text.parse(raw)
    assert (str(found["a"]), found["b"], type(found["d"])) == ("1.10", 12345678901234567890, Decimal)
    assert json_text.dump(found) == raw


@pytest.mark.parametrize(
    "value",
    [{"a": float("nan")}, {"a": Decimal("Infinity")}, {1: 2}, {"a": b""}, {"a": "\ud83d"}, [[[]] * 2, {}]],
)
def test_a_value_is_written_as_json_or_refused(value: object) -> None:
    if isinstance(value, list):
        assert json_text.dump(value) == b"[[[],[]],{}]"
        return
    with pytest.raises(json_text.NotJson, match=r"^has "):
        json_text.dump(value)


def test_a_number_of_python_is_written_with_its_digits() -> None:
    assert json_text.dump({"a": 1.5, "b": True, "c": None}) == b'{"a":1.5,"b":true,"c":null}'


def test_a_value_that_holds_itself_is_too_deep() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(json_text.TooDeep):
        json_text.dump(endless)


def test_members_and_elements_are_found_where_they_stand() -> None:
    text = ' { "a\\"{" : [1, {"b":"x\\"]}"} ,-3e1 , null],"c":{ } }'
    found = json_text.members(text, json_text.start_of(text))
    assert [(one.name, text[one.value : one.end]) for one in found][1] == ("c", "{ }")
    places = json_text.elements(text, found[0].value)
    assert [text[at : json_text.end_of(text, at)] for at in places] == ["1", '{"b":"x\\"]}"}', "-3e1", "null"]
    assert json_text.members("{}") == []


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("a", '{"b": 2 ,"c":3}'),
        ("b", '{"a":1 ,"c":3}'),
        ("c", '{"a":1 , "b": 2}'),
        ("ab", '{"c":3}'),
        ("bc", '{"a":1}'),
        ("ac", '{"b": 2}'),
        ("abc", "{}"),
    ],
)
def test_members_are_taken_out_with_their_commas(gone: str, left: str) -> None:
    text = '{"a":1 , "b": 2 ,"c":3}'
    assert json_text.changed(text, json_text.without(json_text.members(text), gone)) == left


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_64_levels_are_read_and_written_and_one_more_is_not(opened: str, closed: str) -> None:
    def nested(levels: int) -> object:
        return json.loads(opened * levels + "1" + closed * levels)

    json_text.check_depth(nested(64))
    json_text.dump(nested(64))
    for look in (json_text.check_depth, json_text.dump):
        with pytest.raises(json_text.TooDeep):
            look(nested(65))


def test_many_brackets_beside_one_another_are_not_deep() -> None:
    assert json_text.parse(b"[" + b",".join([b"[]"] * 100) + b"]") == [[]] * 100


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"a":"\u0000","b":[1]}',
        rb'["\u0000",{"b":1}]',
        rb'{"a":[[1],["x",{"b":"\ud83d"}]]}',
        rb'{"\u0000":1}',
    ],
)
def test_a_character_that_may_not_be_is_found_wherever_it_stands(raw: bytes) -> None:
    with pytest.raises(json_text.NotJson):
        json_text.parse(raw)


def test_the_name_that_is_there_twice_is_found_at_once_among_many() -> None:
    """What was seen: 200 KB that held the event loop for 2 s, and four times as long for twice as much."""
    names = [*(f"n{number}" for number in range(100_000)), "n99999"]
    with pytest.raises(json_text.NotJson, match="`n99999` twice"):
        json_text.parse(("{" + ",".join(f'"{name}":0' for name in names) + "}").encode())


SPREAD = (
    ' {\n"a" : "\\u00fc" ,\t"b":[ "y" , {"c":"z","d":[[ "w"]],"Ann Smith":{"_e":"v"}} , 1, null ]'
    ' ,"f":1.5 ,"g":{ } ,"h":[ ],"i":"last"} '
)


def test_each_string_is_found_with_the_names_and_places_that_lead_to_it() -> None:
    found = json_text.strings(SPREAD, "Bundle")

    assert [(one.value, one.name, one.around, one.path) for one in found] == [
        ("ü", "a", "", "Bundle.a"),
        ("y", "b", "", "Bundle.b[0]"),
        ("z", "c", "b", "Bundle.b[1].c"),
        ("w", "d", "b", "Bundle.b[1].d[0][0]"),
        ("v", "_e", "Ann Smith", "Bundle.b[1].…._e"),
        ("last", "i", "", "Bundle.i"),
    ]
    assert [json.loads(SPREAD[one.start : one.end]) for one in found] == [one.value for one in found]


def test_a_string_that_is_alone_or_in_a_list_has_no_name() -> None:
    assert json_text.strings(' "a" ', "x") == [json_text.String("a", 1, 4, "", "", "x")]
    assert json_text.strings('["a",["b"]]', "x") == [
        json_text.String("a", 1, 4, "", "", "x[0]"),
        json_text.String("b", 6, 9, "", "", "x[1][0]"),
    ]
    assert json_text.strings(" 1 ", "x") == []


def test_members_and_elements_are_found_however_much_space_is_between_them() -> None:
    at = json_text.start_of(SPREAD)
    members = json_text.members(SPREAD, at)
    (spread,) = (member.value for member in members if member.name == "b")
    elements = json_text.elements(SPREAD, spread)

    assert {one.name: json.loads(SPREAD[one.value : one.end]) for one in members} == json.loads(SPREAD)
    assert [SPREAD[one.start] for one in members] == ['"'] * len(members)
    assert [json.loads(SPREAD[one : json_text.end_of(SPREAD, one)]) for one in elements] == json.loads(
        SPREAD
    )["b"]
    assert json_text.members("{ }") == json_text.members("{}") == []
    assert json_text.elements("[ ]", 0) == json_text.elements("[]", 0) == []


def test_what_is_changed_in_places_stays_as_it_was_in_all_others() -> None:
    changes = [(SPREAD.index('"y"'), SPREAD.index('"y"') + 3, json_text.quoted("ü\n")), (0, 1, "")]

    assert json_text.changed(SPREAD, changes) == SPREAD[1:].replace('"y"', '"ü\\n"')
    assert json_text.changed(SPREAD, []) == SPREAD


def test_what_is_no_json_says_where_and_what_was_expected() -> None:
    for raw, said in (
        (b'{"a":}', "is not JSON at line 1, column 6 (expecting value)"),
        (b"\xfe\xff\x00{", "UTF-16"),
        (b' \n<a b="c"/>', "is XML: send it as FHIR has it in JSON"),
        (b"[1, 2]", "is no JSON object, as a resource is"),
    ):
        with pytest.raises(json_text.NotJson) as caught:
            json_text.parse_object(raw)
        assert said in str(caught.value)
    assert json_text.parse_object(b' {"a": [1]} ') == {"a": [1]}
