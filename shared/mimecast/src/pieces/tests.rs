use std::io::{self, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use proptest::prelude::*;

use super::*;

const DATA: Format = Format::JsonArray("data");

/// Gives as many bytes at once as it is told, as a network does.
struct Dribble<'a> {
    bytes: &'a [u8],
    counts: Vec<usize>,
    turn: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        let count = self.counts[self.turn % self.counts.len()].min(buffer.len());
        self.bytes.read(&mut buffer[..count])
    }
}

fn all<R: Read>(mut pieces: Pieces<R>) -> Vec<Piece> {
    let mut found = Vec::new();
    while let Some((piece, [])) = pieces.next().unwrap() {
        found.push(piece);
    }
    assert_eq!(pieces.next().unwrap(), None);
    found
}

fn capped<R: Read>(reader: R, format: Format, cap: usize) -> Pieces<R> {
    let mut pieces = Pieces::new(reader, format);
    pieces.input.cap = cap;
    pieces
}

/// Events as their text, bad pieces as `!raw: reason`.
fn shown(format: Format, file: impl AsRef<[u8]>) -> Vec<String> {
    show(all(Pieces::new(file.as_ref(), format)))
}

fn show(pieces: Vec<Piece>) -> Vec<String> {
    let show = |piece| match piece {
        Piece::Event(event) => String::from_utf8(event.to_vec()).unwrap(),
        Piece::Bad { raw, reason } => format!("!{}: {reason}", raw.escape_ascii()),
    };
    pieces.into_iter().map(show).collect()
}

fn raw(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Event(raw) | Piece::Bad { raw, .. } => raw,
    }
}

#[test]
fn ndjson_is_split_on_lf_only() {
    let file = "\u{feff}{\"a\": 1}\r\n\n  \t\r\n{\"b\":\"\u{2028}\u{85}\"}\n{\"c\":1}\r{\"d\":1}\n{\"e\":1}";
    let expected = [
        r#"{"a":1}"#,
        "{\"b\":\"\u{2028}\u{85}\"}",
        r#"!{\"c\":1}\r{\"d\":1}: not json: trailing characters at line 1 column 9"#,
        r#"{"e":1}"#,
    ];
    assert_eq!(shown(Format::Ndjson, file), expected);
}

#[test]
fn a_bad_line_spoils_no_other() {
    let expected = [
        r#"{"a":1}"#,
        r"!{\xff}: not utf-8: invalid utf-8 sequence of 1 bytes from index 1",
        r#"!{\"b\":: not json: EOF while parsing a value at line 1 column 5"#,
        r"![1]: not a json object",
        r#"{"c":1}"#,
    ];
    assert_eq!(shown(Format::Ndjson, b"{\"a\":1}\n{\xff}\n{\"b\":\n[1]\n{\"c\":1}\n"), expected);
}

#[test]
fn an_empty_file_has_no_pieces() {
    for format in [Format::Ndjson, DATA, Format::KeyValue, Format::Csv] {
        for file in ["", "\u{feff}", " \r\n\r\n", "\n"] {
            assert_eq!(shown(format, file), [""; 0], "{format:?} {file:?}");
        }
    }
}

#[test]
fn the_elements_of_the_array_are_the_events() {
    let file = br#" { "type" : "MTA", "x":{"data":[1]}, "d\u0061ta" : [ {"a": [1, 2] } ,{"b":"]}"}
        ] , "fail":[ ], "y": "," } "#;
    assert_eq!(shown(DATA, file), [r#"{"a":[1,2]}"#, r#"{"b":"]}"}"#]);
    assert_eq!(shown(DATA, r#"{"meta":{"isLastToken":true},"data":[],"fail":[]}"#), [""; 0]);
    assert_eq!(shown(Format::JsonArray("objects"), r#"{"objects":[{"id":1.10}]}"#), [r#"{"id":1.10}"#]);
}

#[test]
fn a_bad_element_is_bad_alone() {
    let file = b"{\"data\":[{\"a\":1},{\"b\":}, 7 ,{\"c\":\"\xff\"},nul,{\"d\":1}]}";
    let expected = [
        r#"{"a":1}"#,
        r#"!{\"b\":}: not json: expected value at line 1 column 6"#,
        r"!7: not a json object",
        r#"!{\"c\":\"\xff\"}: not utf-8: invalid utf-8 sequence of 1 bytes from index 6"#,
        r"!nul: not json: EOF while parsing a value at line 1 column 3",
        r#"{"d":1}"#,
    ];
    assert_eq!(shown(DATA, file), expected);
}

#[test]
fn from_a_break_in_the_structure_on_all_is_one_bad_piece() {
    let broken = [
        (
            r#"{"data":[{"a":1} {"b":1}]}"#,
            r#"!{\"b\":1}]}: unreadable json: a comma or closing bracket expected at byte 17"#,
        ),
        (r#"{"data":[{"a":1},]}"#, r"!]}: unreadable json: a value expected at byte 17"),
        (r#"{"data":[{"a":1},{"b"#, r#"!{\"b: unreadable json: the rest of a value expected at byte 20"#),
        (r#"{"data":[{"a":1}"#, r"!: unreadable json: a comma or closing bracket expected at byte 16"),
        (r#"{"data":[{"a":1}]"#, r"!: unreadable json: a comma or closing brace expected at byte 17"),
        (r#"{"data":[{"a":1}],"x":"#, r"!: unreadable json: a value expected at byte 22"),
        (r#"{"data":[{"a":1}]} {}"#, r"!{}: unreadable json: nothing more expected at byte 19"),
    ];
    for (file, bad) in broken {
        assert_eq!(shown(DATA, file), [r#"{"a":1}"#.to_owned(), format!("{bad} of the file")], "{file}");
    }
}

#[test]
fn a_document_without_the_array_is_one_bad_piece() {
    let lacking = [
        ("[{}]", "an object expected at byte 0"),
        ("{}", "that member expected at byte 1"),
        (r#" {"a":1,"data":{}} "#, "that member expected at byte 17"),
        (r#"{"a":1,"data":"#, "a value expected at byte 14"),
        (r#"{"a":"1""data":[]}"#, "a comma or closing brace expected at byte 8"),
        (r#"{"a",1}"#, "a colon expected at byte 4"),
        (r#"{1:1}"#, "a key expected at byte 1"),
    ];
    for (file, reason) in lacking {
        let reason = format!("no array \"data\": {reason} of the file");
        let raw = Bytes::copy_from_slice(file.as_bytes());
        assert_eq!(all(Pieces::new(file.as_bytes(), DATA)), [Piece::Bad { raw, reason }]);
    }
}

#[test]
fn key_value_lines_become_objects_of_strings() {
    let file = "a=1|b=x=y|Subject=\\re: a|b\\|e=|é=\u{fc}\"\\\t|=z\ra=2\r\n\nno|a=1\n=x\nl=1|";
    let expected = [
        r#"{"a":"1","b":"x=y","Subject":"\\re: a|b\\","e":"","é":"ü\"\\\t|=z"}"#,
        r#"{"a":"2"}"#,
        "!no|a=1: not key=value: the first pair has no key",
        "!=x: not key=value: the first pair has no key",
        r#"{"l":"1|"}"#,
    ];
    assert_eq!(shown(Format::KeyValue, file), expected);
    let bad = r"!a=\xff: not utf-8: invalid utf-8 sequence of 1 bytes from index 2";
    assert_eq!(shown(Format::KeyValue, b"a=\xff\ra=1\r"), [bad, r#"{"a":"1"}"#]);
}

// B8
#[test]
fn csv_quotes_that_are_a_part_of_the_text_stay_as_they_are() {
    for (row, fields) in [
        (r#"x|"a".exe|y"#, Some(["x", r#""a".exe"#, "y"])),
        (r#"x|"the "final" one.doc"|y"#, Some(["x", r#""the "final" one.doc""#, "y"])),
        (r#"x|"a\"b.doc"|"y""#, Some(["x", r#""a\"b.doc""#, "y"])),
        (r#""x"|a"b"|"c""d""#, Some(["x", r#"a"b""#, r#"c"d"#])),
        (r#""x|y" |z"#, None),
        (r#""x"|"y" |z"#, Some(["x", r#""y" "#, "z"])),
        (r#"x|"a"b|"y"#, None),
        (r#"x|"a".exe"#, None),
    ] {
        let pieces = all(Pieces::new(format!("A|B|C\n{row}\n").as_bytes(), Format::Csv));
        match fields {
            Some([a, b, c]) => {
                let event = serde_json::json!({"A": a, "B": b, "C": c}).to_string();
                assert_eq!(pieces, [Piece::Event(event.into())], "{row}");
            }
            None => assert!(matches!(&pieces[..], [Piece::Bad { raw, .. }] if raw == row), "{row}: {pieces:?}"),
        }
    }
}

#[test]
fn csv_rows_take_their_keys_from_the_header() {
    let file = b"\xef\xbb\xbfMD5|\"Sender\"|Time\r\nnull||t\r\n\r\n\"a|\"\"b\"|x\"y|\xc3\xa9\na|b\na|b|\"c\na|\"b|c\n\xff|b|c\n1|2|3";
    let expected = [
        r#"{"MD5":"null","Sender":"","Time":"t"}"#,
        r#"{"MD5":"a|\"b","Sender":"x\"y","Time":"é"}"#,
        "!a|b: 2 fields where the header has 3",
        r#"!a|b|\"c: not csv: a quote is not closed"#,
        r#"!a|\"b|c: not csv: a quote is not closed"#,
        r"!\xff|b|c: not utf-8: invalid utf-8 sequence of 1 bytes from index 0",
        r#"{"MD5":"1","Sender":"2","Time":"3"}"#,
    ];
    assert_eq!(shown(Format::Csv, file), expected);
    assert_eq!(shown(Format::Csv, "MD5|Sender\n"), [""; 0]);
}

#[test]
fn a_file_that_ends_in_the_middle_of_something_broke_off() {
    for (format, file, expected) in [
        (DATA, r#"{"data":[{"a":1},{"a":"#, true),
        (DATA, r#"{"data":[{"a":1},"#, true),
        (DATA, r#"{"data":[{"a":1}"#, true),
        (DATA, r#"{"data":[{"a":}]}"#, false),
        (DATA, r#"{"data":[{"a":1}]}"#, false),
        (Format::Ndjson, "{\"a\":1}\n{\"a\":", true),
        (Format::Ndjson, "{\"a\":1}\n{\"a\":\n", false),
        (Format::Ndjson, "{\"a\":\n{\"a\":1}", false),
        (Format::Csv, "A|B\n1|2\n3", true),
        (Format::Csv, "A|B\n1|2\n3|4", false),
    ] {
        let mut pieces = Pieces::new(file.as_bytes(), format);
        while pieces.next().unwrap().is_some() {}
        assert_eq!(pieces.broke_off(), expected, "{file}");
    }
}

#[test]
fn a_quoted_field_may_hold_line_ends() {
    let file = b"MD5|Subject|Time\r\n1|\"a\r\nb|\"\"\n\"|t\r\n2|\"\n\"|\"c\n\"\n3|s|\"u\n\"";
    let expected = [
        r#"{"MD5":"1","Subject":"a\r\nb|\"\n","Time":"t"}"#,
        r#"{"MD5":"2","Subject":"\n","Time":"c\n"}"#,
        r#"{"MD5":"3","Subject":"s","Time":"u\n"}"#,
    ];
    assert_eq!(shown(Format::Csv, file), expected);
}

#[test]
fn a_quote_opened_by_mistake_spoils_its_own_line_only() {
    let open = r#"!1|\"a: not csv: a quote is not closed"#;
    let good = |n: u8| format!(r#"{{"A":"{n}","B":"x"}}"#);
    // Closed nowhere, in the middle of a field, by a row of another length, or too far away.
    for (rest, bad) in
        [("2|x\n3|x", None), ("2|x\n3|x\n4|\"b\"c", Some(r#"{"A":"4","B":"\"b\"c"}"#)), ("2|x\n3|x\n\"|\"", None)]
    {
        let found = shown(Format::Csv, format!("A|B\n1|\"a\n{rest}"));
        assert_eq!(found[..3], [open.to_owned(), good(2), good(3)], "{rest}");
        assert!(bad.is_none_or(|bad| found[3] == bad), "{found:?}");
    }
    let far = format!("A|B\n1|\"a\n{}\"\n", "2|x\n".repeat(20_000));
    let found = shown(Format::Csv, far);
    assert_eq!((found.len(), &found[0], &found[20_000]), (20_002, &open.to_owned(), &good(2)));
    let cut = format!("A|B\n\"\n\"|{}\n3|x", "x".repeat(70_000));
    assert_eq!(shown(Format::Csv, cut).len(), 3);
    // A header is one line, or it would swallow rows.
    assert_eq!(shown(Format::Csv, "A|\"B\n1|x\"\n").len(), 2);
}

#[test]
fn under_an_unreadable_header_every_row_is_bad() {
    let expected = [
        "!a|\\xff: not utf-8: invalid utf-8 sequence of 1 bytes from index 2",
        "!1|2: 2 fields where the header has 0",
    ];
    assert_eq!(shown(Format::Csv, b"a|\xff\n1|2\n"), expected);
}

#[test]
fn a_line_or_element_past_the_cap_is_bad_in_parts_and_alone() {
    let lines = format!("{{\"a\":1}}\n{{\"b\":\"{}\"}}\n{{\"c\":1}}\n", "x".repeat(22));
    let part = "part of a line longer than 16 bytes";
    let expected = [
        r#"{"a":1}"#.to_owned(),
        format!(r#"!{{\"b\":\"xxxxxxxxxx: {part}"#),
        format!(r#"!xxxxxxxxxxxx\"}}: {part}"#),
        r#"{"c":1}"#.to_owned(),
    ];
    let found = show(all(capped(lines.as_bytes(), Format::Ndjson, 16)));
    assert_eq!(found, expected);

    let document = format!(
        "{{\"data\":[{{\"a\":1}},{{\"b\":\"{}\"}} , {{\"c\":1}}],\"z\":[{}]}}",
        "x".repeat(25),
        "1,".repeat(30)
    );
    let found = all(capped(document.as_bytes(), DATA, 16));
    assert_eq!(found.len(), 5);
    assert_eq!([raw(&found[0]), raw(&found[4])], [b"{\"a\":1}", b"{\"c\":1}"]);
    let parts: Vec<&[u8]> = found[1..4].iter().map(raw).collect();
    assert_eq!(parts.concat(), format!("{{\"b\":\"{}\"}}", "x".repeat(25)).into_bytes());
    assert!(matches!(&found[1], Piece::Bad { reason, .. } if reason == "part of an event longer than 16 bytes"));
}

#[test]
fn the_cap_is_for_one_event_and_not_for_the_document() {
    for cap in 9..40 {
        let found = all(capped(&b"{\"data\":[ {\"a\":1},{\"a\":1}  ] ,\"z\":[1,2,3,4,5,6,7,8,9]}"[..], DATA, cap));
        assert_eq!(show(found), [r#"{"a":1}"#; 2], "{cap}");
    }
}

#[test]
fn a_document_past_the_cap_before_its_array_is_bad_in_parts() {
    let document = format!("{{\"x\":\"{}\",\"data\":[{{}}]}}", "x".repeat(50));
    let found = all(capped(document.as_bytes(), DATA, 16));
    let parts: Vec<&[u8]> = found.iter().map(raw).collect();
    assert_eq!(parts.concat(), document.as_bytes());
    assert!(parts.iter().all(|part| part.len() <= 16));
}

#[test]
fn the_readers_error_comes_after_the_pieces_before_it_and_stays() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(b"{\"a\":1}\n{\"b\":1}\n{\"c\":1}\n").unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.truncate(bytes.len() - 14);
    let mut pieces = Pieces::new(MultiGzDecoder::new(&bytes[..]), Format::Ndjson);
    assert_eq!(pieces.next().unwrap(), Some((Piece::Event(Bytes::from_static(b"{\"a\":1}")), [])));
    assert_eq!(pieces.next().unwrap(), Some((Piece::Event(Bytes::from_static(b"{\"b\":1}")), [])));
    let first = pieces.next().unwrap_err();
    let second = pieces.next().unwrap_err();
    assert!(matches!(&first, ReadError::Broken(reason) if reason.contains("incomplete")), "{first:?}");
    assert!(matches!(&second, ReadError::Broken(reason) if *reason == first.to_string()), "{second:?}");
}

#[test]
fn a_reader_whose_disk_fails_is_this_machines_trouble_and_stays_so() {
    struct Disk(&'static [u8]);
    impl Read for Disk {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                count => Ok(count),
            }
        }
    }
    for format in [Format::Ndjson, DATA] {
        let mut pieces = Pieces::new(Disk(b"{\"data\":[{}"), format);
        for _ in 0..2 {
            assert!(matches!(pieces.skip(9).unwrap_err(), ReadError::Local(_)), "{format:?}");
        }
    }
}

#[test]
fn skip_passes_over_pieces_good_and_bad() {
    let mut pieces = Pieces::new(&b"{\"a\":1}\nx\n\n{\"b\":1}\n"[..], Format::Ndjson);
    assert_eq!(pieces.skip(2).unwrap(), 2);
    assert_eq!(pieces.next().unwrap(), Some((Piece::Event(Bytes::from_static(b"{\"b\":1}")), [])));
    assert_eq!(pieces.skip(2).unwrap(), 0);
}

#[test]
fn the_format_is_seen_in_the_first_bytes() {
    let cases = [
        ("receipt_1.json", r#"{"type":"MTA","data":[{"acc":"#, Some(DATA)),
        ("x", "\u{feff}\n {\"type\":\"MTA\", \"data\": [ ]}", Some(DATA)),
        ("x.json", r#"{"type":"bundle","id":"b","objects":[{"type":"malware"}]}"#, Some(Format::JsonArray("objects"))),
        ("x.json", r#"{"type":"bundle","id":"b"}"#, Some(Format::JsonArray("objects"))),
        ("x.json", r#"{"type":"bundle","labels":["#, Some(Format::JsonArray("objects"))),
        ("x.json", "{\"type\":\"bundle\"}\n{\"type\":\"bundle\"}", Some(Format::Ndjson)),
        ("x.json.gz", "{\"type\":\"receipt\"}\n{\"type\":\"av\"}\n", Some(Format::Ndjson)),
        ("x.json.gz", "{\"data\":[1]}\n{\"data\":[1]}\n", Some(Format::Ndjson)),
        ("x", r#"{"subject":"data","spamProcessingDetail":{"data":[1]},"x"#, Some(Format::Ndjson)),
        ("receipt_1.siem", "datetime=2017|aCode=7\r\n", Some(Format::KeyValue)),
        ("receipt_1.siem", "datetime=2017\ra|b", Some(Format::KeyValue)),
        ("x", "MD5|SHA256\n1=2|3", Some(Format::Csv)),
        ("x.csv", "MD5\n", Some(Format::Csv)),
        ("x.json", "", None),
        ("x.csv", " \n", None),
        ("x", "<html>", None),
        ("x", "[1]", None),
    ];
    for (name, head, format) in cases {
        assert_eq!(Format::sniff(name, head.as_bytes()), format, "{name} {head}");
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Ndjson, DATA, Format::KeyValue, Format::Csv])
}

fn files() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "{\"data\":[",
            "]}",
            "{\"a\":1}",
            ",",
            "{\"b\": \"x\\\"y\"}",
            "{\"c\":}",
            "\r\n",
            "\n",
            "\r",
            " ",
            "a=1|b=2",
            "|",
            "=",
            "\"",
            "]",
            "}",
            "\"k\":1",
            "\u{feff}",
            "\\",
        ])
        .prop_map(|part| part.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    let opened = any::<bool>();
    (opened, prop::collection::vec(part, 0..24)).prop_map(|(opened, parts)| {
        let open: &[u8] = if opened { b"{\"data\":[" } else { b"" };
        [open, &parts.concat()].concat()
    })
}

#[test]
fn a_byte_order_mark_is_ignored_wherever_the_first_bytes_come_from() {
    let file = b"\xef\xbb\xbf{\"a\":1}\n{\"b\":2}\n";
    for read in 0..file.len() {
        let (head, rest) = file.split_at(read);
        let pieces = all(Pieces::after(head.to_vec(), rest, Format::Ndjson, []));
        assert_eq!(show(pieces), [r#"{"a":1}"#, r#"{"b":2}"#], "{read} bytes read before");
    }
}

proptest! {
    #[test]
    fn events_and_bad_lines_cover_all_lines(lines in prop::collection::vec(
        prop_oneof![
            "\\PC{0,6}".prop_map(String::into_bytes),
            "[{}\":, a1\r\t\u{2028}\u{85}]{0,8}".prop_map(String::into_bytes),
            "[ \\PC]{0,6}".prop_map(|text| serde_json::json!({ "k": text }).to_string().into_bytes()),
            prop::collection::vec(any::<u8>().prop_filter("within a line", |&byte| byte != b'\n'), 0..6),
        ],
        0..8,
    )) {
        let file = lines.join(&b'\n');
        prop_assume!(!file.starts_with(input::BOM));
        let expected: Vec<Piece> = lines.into_iter().filter(|line| !json::trim(line).is_empty()).map(|mut line| {
            line.pop_if(|last| *last == b'\r');
            let raw = Bytes::from(line);
            match json::compact(&raw) {
                Ok(event) => Piece::Event(event),
                Err(reason) => Piece::Bad { raw, reason },
            }
        }).collect();
        prop_assert_eq!(all(Pieces::new(&file[..], Format::Ndjson)), expected);
    }

    #[test]
    fn the_size_of_reads_makes_no_difference(
        format in formats(),
        file in files(),
        counts in prop::collection::vec(1usize..9, 1..5),
        chunk in 1usize..40,
        head in any::<prop::sample::Index>(),
        cap in prop_oneof![4usize..40, Just(MAX_EVENT)],
    ) {
        let at_once = all(capped(&file[..], format, cap));
        let mut dribbled = capped(Dribble { bytes: &file, counts: counts.clone(), turn: 0 }, format, cap);
        dribbled.input.chunk = chunk;
        prop_assert_eq!(all(dribbled), &at_once[..]);
        let (head, rest) = file.split_at(head.index(file.len() + 1));
        let mut after = Pieces::after(head.to_vec(), Dribble { bytes: rest, counts, turn: 0 }, format, []);
        (after.input.cap, after.input.chunk) = (cap, chunk);
        prop_assert_eq!(all(after), at_once);
    }

    #[test]
    fn members_are_found_in_the_event_that_is_given(format in formats(), file in files()) {
        const KEYS: [&str; 3] = ["a", "b", "A"];
        let mut pieces = Pieces::after(Vec::new(), &file[..], format, KEYS);
        while let Some((piece, found)) = pieces.next().unwrap() {
            match piece {
                Piece::Event(line) => {
                    prop_assert_eq!(found.map(|value| value.map(|value| &line[value])), json::find(&line, KEYS));
                }
                Piece::Bad { .. } => prop_assert_eq!(found, [None, None, None]),
            }
        }
    }

    #[test]
    fn csv_rows_are_read_as_they_were_written(
        rows in prop::collection::vec(prop::collection::vec("[a\\|\"\r\n é]{0,6}", 3), 0..6),
        style in prop::sample::select(vec![csv::QuoteStyle::Necessary, csv::QuoteStyle::Always]),
    ) {
        let mut written = csv::WriterBuilder::new().delimiter(b'|').quote_style(style).from_writer(Vec::new());
        written.write_record(["A", "B", "C"]).unwrap();
        rows.iter().for_each(|row| written.write_record(row).unwrap());
        let expected: Vec<Piece> = rows.iter().map(|row| {
            let [a, b, c] = [0, 1, 2].map(|field| serde_json::to_string(&row[field]).unwrap());
            Piece::Event(format!(r#"{{"A":{a},"B":{b},"C":{c}}}"#).into())
        }).collect();
        prop_assert_eq!(all(Pieces::new(&written.into_inner().unwrap()[..], Format::Csv)), expected);
    }

    #[test]
    fn nothing_is_lost_of_a_document_without_the_array(file in files(), cap in 4usize..40) {
        let file = [b"{\"x\":1,", &file[..]].concat();
        let pieces = all(capped(&file[..], DATA, cap));
        if matches!(pieces.first(), Some(Piece::Bad { reason, .. }) if reason.starts_with("no array")) {
            let parts: Vec<&[u8]> = pieces.iter().map(raw).collect();
            prop_assert_eq!(parts.concat(), file);
        }
    }

    #[test]
    fn all_but_separators_of_an_array_comes_out(rows in prop::collection::vec("[a-z0-9{}\":]{1,12}", 0..6), cap in 9usize..40) {
        let file = format!("{{\"data\":[{}]}}", rows.join(","));
        let raws = all(capped(file.as_bytes(), DATA, cap)).iter().map(raw).collect::<Vec<_>>().concat();
        let letters = |bytes: &[u8]| bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).copied().collect::<Vec<_>>();
        prop_assert_eq!(letters(&raws), letters(rows.concat().as_bytes()));
    }
}
