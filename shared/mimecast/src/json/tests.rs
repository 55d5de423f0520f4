use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn compacted(event: &[u8]) -> Result<String, String> {
    compact(&Bytes::copy_from_slice(event)).map(|line| String::from_utf8(line.to_vec()).unwrap())
}

fn rows(array: &[u8]) -> Result<Vec<&[u8]>, Broken> {
    elements(array).collect()
}

#[test]
fn compact_touches_nothing_but_white_space_outside_strings() {
    let event = br#" {
        "n" : [ 12345678901234567890 , 1.10 , -0.0 , 1E+5 , 1e400 ] ,
        "s" : " a\tb \" \\" , "\u0061 \/\u003c" : "\ud800 \u2028" , "e" : { } , "t":true
    } "#;
    let line = r#"{"n":[12345678901234567890,1.10,-0.0,1E+5,1e400],"s":" a\tb \" \\","\u0061 \/\u003c":"\ud800 \u2028","e":{},"t":true}"#;
    assert_eq!(compacted(event).unwrap(), line);
    assert_eq!(compacted("{\"a\":\"\u{2028}\u{85}\u{a0}\"}".as_bytes()).unwrap(), "{\"a\":\"\u{2028}\u{85}\u{a0}\"}");
}

#[test]
fn compact_copies_only_where_it_must() {
    let event = Bytes::from_static(b"\r\n {\"a\":\"b c\"}\t ");
    let line = compact(&event).unwrap();
    assert_eq!(line.as_ptr(), event[3..].as_ptr());
    assert_eq!(line, "{\"a\":\"b c\"}");
}

#[test]
fn compact_refuses_what_is_not_one_object() {
    let refused: [(&[u8], &str); 12] = [
        (b"", "not json: EOF"),
        (b"  ", "not json: EOF"),
        (b"[1]", "not a json object"),
        (b"\"a\"", "not a json object"),
        (b"{\"a\":}", "not json: "),
        (b"{\"a\":01}", "not json: "),
        (b"{\"a\":1}{\"a\":2}", "not json: trailing"),
        (b"{\"a\":\"\xff\"}", "not utf-8: "),
        (b"{\"a\":\"b\nc\"}", "not json: control character"),
        (b"{\"a\":\"\0\"}", "not json: control character"),
        (b"{\"a\":1\0}", "not json: "),
        (b"{\"a\":\"\\x\"}", "not json: invalid escape"),
    ];
    for (event, reason) in refused {
        let error = compacted(event).unwrap_err();
        assert!(error.starts_with(reason), "{event:?}: {error}");
    }
}

#[test]
fn compact_bears_deep_nesting() {
    let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    assert_eq!(compacted(&deep).unwrap().len(), deep.len());
}

#[test]
fn a_row_that_is_broken_inside_has_its_borders() {
    let array = b" [ {\"a\":} , {\"b\":\"\xff]\"},{,:},nul, {\"c\":[1 2]}\n] ";
    let expected: [&[u8]; 5] = [b"{\"a\":}", b"{\"b\":\"\xff]\"}", b"{,:}", b"nul", b"{\"c\":[1 2]}"];
    assert_eq!(rows(array).unwrap(), expected);
}

#[test]
fn members_come_in_order_with_the_text_of_their_keys() {
    let object = br#"{ "a\"b" : {"x":[1,"}"]} ,"":null, "a" : -1.50 }"#;
    let members: Vec<_> = members(object).map(Result::unwrap).collect();
    let expected: [(&[u8], &[u8]); 3] = [(br#"a\"b"#, br#"{"x":[1,"}"]}"#), (b"", b"null"), (b"a", b"-1.50")];
    assert_eq!(members, expected);
}

#[test]
fn a_broken_structure_is_said_with_its_place() {
    let broken: [(&[u8], usize, &str); 12] = [
        (b"", 0, "an opening bracket"),
        (b"{}", 0, "an opening bracket"),
        (b"[", 1, "a value"),
        (b"[1", 1, "a value"),
        (b"[1,]", 3, "a value"),
        (b"[,1]", 1, "a value"),
        (b"[1,,2]", 3, "a value"),
        (b"[1 2]", 3, "a comma or closing bracket"),
        (b"[{}", 3, "a comma or closing bracket"),
        (b"[{},{\"a\":[1]", 4, "a value"),
        (b"[\"a]", 1, "a value"),
        (b"[1] ]", 4, "nothing more"),
    ];
    for (array, at, expected) in broken {
        assert_eq!(rows(array), Err(Broken { at, expected }), "{array:?}");
    }
    let broken: [(&[u8], usize, &str); 5] = [
        (b"{1:2}", 1, "a key"),
        (b"{\"a\" 1}", 5, "a colon"),
        (b"{\"a\":}", 5, "a value"),
        (b"{\"a\":1,}", 7, "a key"),
        (b"{\"a\":1", 5, "a value"),
    ];
    for (object, at, expected) in broken {
        assert_eq!(members(object).collect::<Result<Vec<_>, _>>(), Err(Broken { at, expected }), "{object:?}");
    }
    assert_eq!(Broken { at: 3, expected: "a colon" }.to_string(), "unreadable json: a colon expected at byte 3");
}

#[test]
fn the_items_before_a_break_are_given_and_none_after_it() {
    let mut rows = elements(b"[1,{},x y,2]");
    assert_eq!(rows.next(), Some(Ok(&b"1"[..])));
    assert_eq!(rows.next(), Some(Ok(&b"{}"[..])));
    assert_eq!(rows.next(), Some(Ok(&b"x"[..])));
    assert_eq!(rows.next(), Some(Err(Broken { at: 8, expected: "a comma or closing bracket" })));
    assert_eq!(rows.next(), None);
}

#[test]
fn string_members_are_decoded_and_the_first_counts() {
    let event = br#"{"x":{"id":"inner"},"\u0069d":"a\/\u00e9","id":"second","n":-1.50e3,"t":true,"z":null,"l":[],"bad":"\ud800"}"#;
    let cases = [
        ("id", Some("a/é")),
        ("n", Some("-1.50e3")),
        ("t", Some("true")),
        ("z", None),
        ("l", None),
        ("x", None),
        ("bad", None),
        ("absent", None),
    ];
    for (key, value) in cases {
        assert_eq!(string_member(event, key).as_deref(), value, "{key}");
    }
    assert_eq!(string_member(b"[1]", "id"), None);
}

#[test]
fn what_is_plain_is_told_with_its_members() {
    let line = r#"{"x":{"id":"in\"ner","té":[]},"":"","id":"a\/\u00E9\ud800","id":"second","n":-1.50e+3,"t":true,"l":[1,[],{}]}"#;
    let found = plain(line.as_bytes(), ["id", "n", "t", "absent", "l", ""]).unwrap();
    let expected =
        [Some(r#""a\/\u00E9\ud800""#), Some("-1.50e+3"), Some("true"), None, Some("[1,[],{}]"), Some(r#""""#)];
    assert_eq!(found.map(|value| value.map(|value| str::from_utf8(value).unwrap())), expected);
    assert_eq!(plain(b"{}", ["id"]), Some([None]));
}

#[test]
fn what_is_not_plainly_an_event_is_not_plain() {
    let doubtful: [&[u8]; 28] = [
        b"",
        b"[1]",
        b" {}",
        b"{} ",
        b"{}{}",
        b"{\"a\": 1}",
        b"{\"a\":1 }",
        b"{\"a\":1,}",
        b"{\"a\":[1,]}",
        b"{\"a\":[,1]}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":01}",
        b"{\"a\":-}",
        b"{\"a\":1.}",
        b"{\"a\":.1}",
        b"{\"a\":1e}",
        b"{\"a\":nul}",
        b"{\"a\":truee}",
        b"{\"a\":1]",
        b"{\"a\":\"12345678\x1f\"}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12g4\"}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"12345678\xc3\"}",
        b"{\"\\u0061\":1}",
        b"{\"a\":\"b",
    ];
    for line in doubtful {
        assert_eq!(plain(line, ["a"]), None, "{}", line.escape_ascii());
    }
    let nested = |depth| [b"{\"a\":".to_vec(), b"[".repeat(depth), b"]".repeat(depth), b"}".to_vec()].concat();
    assert!(plain(&nested(64), []).is_some());
    assert!(plain(&nested(65), []).is_none());
}

#[test]
fn a_key_that_is_no_text_is_none_the_second_time_either() {
    let mut layout = Layout::new([]);
    for line in [&b"{\"\xff\":1}"[..], b"{\"\xff\":1}", b"{\"a\":1,\"\xff\":1}", b"{\"a\":1,\"\xff\":1}"] {
        let long = [&line[..line.len() - 1], b",\"b\":\"more than a key that is remembered\"}"].concat();
        assert_eq!([plain_like(line, &mut layout), plain_like(&long, &mut layout)], [None; 2]);
    }
}

/// What the fast path says the slow path says too. Whether the fast path was taken.
fn the_paths_agree(event: &[u8]) -> bool {
    let event = Bytes::copy_from_slice(event);
    let keys = ["a", "b", "\u{e9}", ""];
    let slowly = compact_slowly(&event);
    let values = plain(&event, keys);
    if let Some(values) = values {
        let line = slowly.as_ref().expect("taken, though it is no event");
        assert_eq!((line.as_ptr(), line.len()), (event.as_ptr(), event.len()), "taken, though it is not compact");
        assert_eq!(values, find(line, keys), "another member");
    }
    let (line, found) = compact_with(&event, keys).map_or((None, None), |(line, found)| (Some(line), Some(found)));
    assert_eq!(line, slowly.ok());
    if let (Some(line), Some(found)) = (line, found) {
        let texts = found.map(|value| Some(text(&line[value?])?.into_owned()));
        assert_eq!(texts, keys.map(|key| string_member(&line, key)));
    }
    values.is_some()
}

/// JSON as tokens: `None` marks where white space may be.
type Tokens = Vec<Option<String>>;

fn json() -> impl Strategy<Value = Tokens> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter_map("finite", |number| number.is_finite().then(|| format!("{number:e}"))),
        prop::sample::select(vec!["12345678901234567890", "1.10", "1e5", "1E+05", "-0.0", "-0", "0.1e-7"])
            .prop_map(str::to_owned),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[ \t,:{}\\[\\]\"\\\\/\u{2028}\u{85}]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        prop::sample::select(vec![r#""\u003c \/ \u0041""#, r#""\\\" ,""#, r#""\ud83d\ude00""#]).prop_map(str::to_owned),
    ];
    let word = prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![number, text.clone(), word].prop_map(|token| vec![Some(token)]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| list("[", items, "]")),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(object),
        ]
    })
}

fn json_object() -> impl Strategy<Value = Tokens> {
    let key = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
    prop::collection::vec((key, json()), 0..6).prop_map(object)
}

fn object(members: Vec<(String, Tokens)>) -> Tokens {
    let member = |(key, value)| [vec![Some(key), None, Some(":".into()), None], value].concat();
    list("{", members.into_iter().map(member).collect(), "}")
}

fn list(open: &str, items: Vec<Tokens>, close: &str) -> Tokens {
    let comma = [None, Some(",".to_owned()), None];
    [vec![Some(open.to_owned()), None], items.join(&comma[..]), vec![None, Some(close.to_owned())]].concat()
}

/// The tokens as text, with and without white space.
fn print(tokens: &Tokens, spaces: &[String]) -> (String, String) {
    let mut spaces = spaces.iter().cycle();
    let spaced = tokens.iter().map(|token| token.as_ref().unwrap_or_else(|| spaces.next().unwrap()).as_str());
    (spaced.collect(), tokens.iter().flatten().map(String::as_str).collect())
}

/// Where, how many bytes go, and what comes in their place.
fn change() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    (any::<prop::sample::Index>(), 0..3_usize, prop_oneof![Just(Vec::new()), part()])
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    let texts = vec![
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "0",
        "-",
        "1.5",
        ".",
        "e",
        "E+1",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\0",
        "\x1f",
        "\x7f",
        "a",
        "\"a\":",
        "\"b\":1,",
        "\"\\u0061\":",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "\\n",
        "\\/",
        "é",
        "\u{2028}",
        "😀",
        "\"é\":\"",
        "\"twelve bytes",
        "0123456789abcdef",
        "!!!!!!!#",
        "######!!",
        "",
    ];
    let bytes: Vec<&[u8]> = vec![b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f", b"\x80\x22"];
    prop_oneof![
        8 => prop::sample::select(texts).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::sample::select(bytes).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

fn spaces() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ \t\r\n]{0,3}", 1..9)
}

proptest! {
    #[test]
    fn compact_is_the_same_tokens_without_white_space(tokens in json_object(), spaces in spaces()) {
        let (spaced, dense) = print(&tokens, &spaces);
        let line = compacted(format!(" {spaced}\n").as_bytes()).unwrap();
        prop_assert_eq!(&line, &dense);
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), serde_json::from_str::<Value>(&spaced).unwrap());
    }

    #[test]
    fn every_compact_event_without_escapes_in_its_keys_is_plain(tokens in json_object()) {
        let (_, dense) = print(&tokens, &[String::new()]);
        let escaped_key = tokens.windows(3).any(|three| {
            matches!(three, [Some(key), None, Some(colon)] if colon == ":" && key.contains('\\'))
        });
        prop_assert!(the_paths_agree(dense.as_bytes()) || escaped_key);
    }

    #[test]
    fn the_fast_path_says_nothing_that_the_slow_path_does_not_say(
        tokens in json_object(),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        let mut event = print(&tokens, &[String::new()]).1.into_bytes();
        for (at, removed, put) in changes {
            let at = at.index(event.len() + 1);
            let end = event.len().min(at + removed);
            event.splice(at..end, put);
        }
        the_paths_agree(&event);
    }

    #[test]
    fn a_layout_changes_nothing(
        keys in prop::collection::vec("[a-d\u{e9}\"]{0,2}|[ab]{26,34}", 1..5),
        lines in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..5), 0..60_usize, change()), 1..8),
    ) {
        let mut layout = Layout::new(["a", "b"]);
        for (members, length, (at, removed, put)) in lines {
            let value = "x".repeat(length);
            let members = members.iter().map(|key| format!("{}:\"{value}\"", serde_json::to_string(key.get(&keys)).unwrap()));
            let mut line = format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes();
            let at = at.index(line.len() + 1);
            let end = line.len().min(at + removed);
            line.splice(at..end, put);
            prop_assert_eq!(plain_like(&line, &mut layout), plain(&line, ["a", "b"]));
        }
    }

    #[test]
    fn the_paths_agree_on_what_events_are_made_of(parts in prop::collection::vec(part(), 0..12)) {
        the_paths_agree(&[b"{\"a\":".to_vec(), parts.concat(), b"}".to_vec()].concat());
    }

    #[test]
    fn compact_takes_exactly_what_serde_json_takes(text in "[{}\\[\\]\":,\\\\ a1\n\u{e9}tru]{0,12}") {
        let text = format!("{{{text}}}");
        prop_assert_eq!(compacted(text.as_bytes()).is_ok(), serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn members_and_elements_agree_with_serde_json(items in prop::collection::vec(json(), 0..6), spaces in spaces()) {
        let (array, _) = print(&list("[", items.clone(), "]"), &spaces);
        let values: Vec<Value> = rows(array.as_bytes()).unwrap().into_iter()
            .map(|row| serde_json::from_slice(row).unwrap()).collect();
        prop_assert_eq!(Value::Array(values), serde_json::from_str::<Value>(&array).unwrap());

        let keyed = items.into_iter().enumerate().map(|(key, value)| (format!("\"k\\u0031{key}\""), value)).collect();
        let (object, _) = print(&object(keyed), &spaces);
        let values = members(object.as_bytes()).map(Result::unwrap).map(|(key, value)| {
            let key = serde_json::from_slice(&[b"\"", key, b"\""].concat()).unwrap();
            (key, serde_json::from_slice(value).unwrap())
        });
        let values = Value::Object(values.collect());
        prop_assert_eq!(values, serde_json::from_str::<Value>(&object).unwrap());
    }

    #[test]
    fn a_scan_in_steps_finds_the_same_end(tokens in json(), cut in any::<prop::sample::Index>()) {
        let (_, text) = print(&tokens, &[String::new()]);
        let bytes = format!("{text},").into_bytes();
        let cut = cut.index(bytes.len());
        let mut scan = Scan::default();
        let end = scan.end(&bytes[..cut], 0).or_else(|| scan.end(&bytes, cut));
        prop_assert_eq!(end, Some(bytes.len() - 1));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop_oneof![any::<Vec<u8>>(), "[{}\\[\\]\":,\\\\ a1]{0,20}".prop_map(String::into_bytes)]
    ) {
        let rows = elements(&bytes).map_while(Result::ok).map(<[u8]>::len).sum::<usize>();
        let pairs = members(&bytes).map_while(Result::ok).map(|(key, value)| key.len() + value.len()).sum::<usize>();
        prop_assert!(rows <= bytes.len() && pairs <= bytes.len());
        let named = string_member(&bytes, "a");
        prop_assert!(named.is_none_or(|text| text.len() <= bytes.len()));
        if let Ok(line) = compact(&Bytes::from(bytes)) {
            prop_assert_eq!(compact(&line).unwrap(), line);
        }
    }
}
