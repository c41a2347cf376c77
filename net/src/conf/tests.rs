//! The syntax, by example; its bounds; and where errors are said to be.

use std::io;
use std::path::Path;

use super::*;

/// The files that `include` finds, and one variable.
fn read(text: &str) -> Result<Map, ConfError> {
    let files = |path: &Path| match path.to_str() {
        Some("dir/main.conf") => Ok(text.to_owned()),
        Some("dir/more.conf") => Ok("b = 2\nc = 3".to_owned()),
        Some("dir/circle.conf") => Ok("include 'circle.conf'".to_owned()),
        Some("dir/bad.conf") => Ok("\n\nx".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let variable = |name: &str| (name == "HOME").then(|| "/home".to_owned());
    parse(Path::new("dir/main.conf"), Outside { read: &files, variable: &variable })
}

/// The tree as one line.
fn show(map: &Map) -> String {
    let entries: Vec<_> = map
        .entries
        .iter()
        .map(|entry| format!("{}={}", entry.key, show_value(&entry.value)))
        .collect();
    format!("{{{}}}", entries.join(" "))
}

fn show_value(value: &Value) -> String {
    match &value.kind {
        Kind::Scalar(text) => text.clone(),
        Kind::List(values) => {
            format!("[{}]", values.iter().map(show_value).collect::<Vec<_>>().join(" "))
        }
        Kind::Map(map) => show(map),
    }
}

fn check(text: &str, tree: &str) {
    assert_eq!(read(text).map(|map| show(&map)).as_deref(), Ok(tree), "{text}");
}

fn check_error(text: &str, message: &str) {
    let error = read(text).expect_err(text).to_string();
    assert_eq!(error, format!("dir/{message}"), "{text}");
}

#[test]
fn keys_and_values_are_written_in_three_ways() {
    check("a: 1\nb = 2\nc 3; d:4, e=5", "{a=1 b=2 c=3 d=4 e=5}");
    check("a { b: {c: d} }\ne{f=1}", "{a={b={c=d}} e={f=1}}");
    check("a\n{\n b: 1 }", "{a={b=1}}");
    check("a: [1, 2\n 3;4, [5]]\nb []", "{a=[1 2 3 4 [5]] b=[]}");
    check("\"foo.*\": 'x y'\nfoo.> : \"q\\t\\\"\\x41\"", "{foo.*=x y foo.>=q\t\"A}");
    check("{\"a\": {\"b\": [true, null]},\n \"c\": \"\"}\n", "{a={b=[true null]} c=}");
    check("\u{feff}a: 'C:\\x'\r\nb: 1\r\n", "{a=C:\\x b=1}");
    check("", "{}");
}

#[test]
fn comments_stand_anywhere_but_inside_words() {
    check("# x\na: 1 # y\nb: nats://h//x#y // z\n//end", "{a=1 b=nats://h//x#y}");
    check("a: [ # one\n 1 // two\n ]", "{a=[1]}");
    check("a # note\n{b: 1}", "{a={b=1}}");
}

#[test]
fn blocks_keep_their_lines() {
    check("a: (\n one {\n  two)\n)\nb: 1", "{a=\n one {\n  two)\n b=1}");
    check_error("a: (\n x )", "main.conf:1: a block in ( ) that starts here is not closed");
}

#[test]
fn variables_are_those_of_the_file_and_then_of_the_environment() {
    check("v: 1\na { v: 2, b: $v }\nc: $v\nd: $HOME", "{v=1 a={v=2 b=2} c=1 d=/home}");
    check("v: [1, 2]\na: $v", "{v=[1 2] a=[1 2]}");
    check("a: \"$v\"\nb: $2a$11$xyz", "{a=$v b=$2a$11$xyz}");
    check_error(
        "\na: $v",
        "main.conf:2: the variable $v is neither set before nor in the environment",
    );
}

#[test]
fn includes_stand_where_they_are_included() {
    check("a: 1\ninclude more.conf\nd: $c", "{a=1 b=2 c=3 d=3}");
    check("m { include './more.conf' }".replace("./", "").as_str(), "{m={b=2 c=3}}");
    check("include: more", "{include=more}");
    check_error("include circle.conf", "circle.conf:1: files include each other more than 10 deep");
    check_error("include bad.conf", "bad.conf:3: the key has no value");
    check_error("a: 1\ninclude none", "main.conf:2: cannot read dir/none: entity not found");
}

#[test]
fn errors_name_their_line() {
    check_error("a: 1\nb:\nc: 2", "main.conf:2: the key has no value");
    check_error("a {\n b: 1", "main.conf:1: a map that starts here is not closed");
    check_error("a [\n b", "main.conf:1: a list that starts here is not closed");
    check_error("\n}", "main.conf:2: nothing is open that this closes");
    check_error("a: [1}", "main.conf:1: nothing is open that this closes");
    check_error(
        "a: 1 b: 2",
        "main.conf:1: expected a new line, a comma or a semicolon after the value",
    );
    check_error("\na: 'x", "main.conf:2: a string that starts here is not closed");
    check_error("a: \"\\q\"", "main.conf:1: unknown escape after \\ in a string in double quotes");
    check_error(": 1", "main.conf:1: expected a key");
    check_error("{a: 1}\nb: 2", "main.conf:2: expected the end of the file");
}

#[test]
fn nesting_and_size_have_bounds() {
    let deep = |count| "a: ".to_owned() + &"[".repeat(count) + &"]".repeat(count);
    assert!(read(&deep(32)).is_ok());
    check_error(&deep(33), "main.conf:1: maps and lists are nested more than 32 deep");
    let copies: String = (1..40).map(|at| format!("v{at}: [$v{0}, $v{0}]\n", at - 1)).collect();
    let error = read(&("v0: x\n".to_owned() + &copies)).expect_err("too large");
    assert!(matches!(error.problem, Problem::TooLarge { .. }), "{error}");
}

#[test]
fn scalars_are_read_as_what_is_asked_for() {
    let map = read("a: 64MB\nb: -2k\nc: YES\nd: off\ne: [1]\nf: 9eb\nA: 1Ki").expect("valid");
    let value = |index: usize| &map.entries[index].value;
    assert_eq!(value(0).integer(), Ok(64 << 20));
    assert_eq!(value(1).integer(), Ok(-2000));
    assert_eq!(value(2).boolean(), Ok(true));
    assert_eq!(value(3).boolean(), Ok(false));
    assert_eq!(map.get("a").map(|entry| entry.value.integer()), Some(Ok(1024)));
    for bad in [value(2), value(4), value(5)] {
        let error = bad.integer().expect_err("no number").to_string();
        assert!(error.contains("expected "), "{error}");
    }
    assert_eq!(value(4).list().len(), 1);
    assert_eq!(
        value(0).map().map_err(|error| error.to_string()),
        Err("dir/main.conf:1: expected a map {}".into())
    );
}
