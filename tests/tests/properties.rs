//! What must hold for every input, tried on the steps' own code with many.

mod memory;

use memory::{EXCHANGES, Memory};
use proptest::collection::vec;
use proptest::prelude::*;

/// The most that a step may read before it answers, in bytes: its two limits, and a buffer.
const BOUND: usize = 8192 + 16384 + 8192;

/// Lets a step answer these bytes. Returns what it wrote, and how much it read.
fn answer(step: &str, bytes: &[u8]) -> (String, usize) {
    let (_, exchange) =
        EXCHANGES.into_iter().find(|(name, _)| *name == step).expect("a step");
    let mut memory = Memory { pieces: [bytes.to_vec()].into(), ..Memory::default() };
    exchange(&mut memory);
    (String::from_utf8(memory.written).expect("a response in UTF-8"), memory.read)
}

/// Bytes that resemble a request more or less.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..20),
        "[A-Z]{1,7} [!-~]{1,20} HTTP/[0-9]\\.[0-9]\r\n".prop_map(String::into_bytes),
        "[A-Za-z-]{0,9}[: ]{1,2}[ -~]{0,20}\r?\n".prop_map(String::into_bytes),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        (any::<u8>(), 0..40_000_usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A token (RFC 9110, section 5.6.2).
fn token() -> impl Strategy<Value = String> {
    "[-!#$%&'*+.^_`|~0-9A-Za-z]{1,20}"
}

/// Field lines: names, and values with no white space around them.
fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((token(), "([!-~äöü]([ \t!-~äöü]{0,20}[!-~äöü])?)?"), 0..20)
}

/// A request target (RFC 3986, sections 3.2.2, 3.3 and 3.4).
fn target() -> impl Strategy<Value = String> {
    "([-._~:/?@!$&'()*+,;=0-9A-Za-z\\[\\]]|%[0-9A-Fa-f]{2}){1,50}"
}

/// Asserts with which status the steps from 04 on answer a request.
fn assert_status(request: &str, status: u16) {
    for step in ["04-status-codes", "05-thread-per-connection"] {
        let (response, _) = answer(step, request.as_bytes());
        let expected = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&expected), "{step}, {request:?}: {response}");
    }
}

/// A host is a name or an address in brackets, and a port is digits (RFC 3986, section 3.2).
#[test]
fn a_host_is_judged_by_its_grammar() {
    let good = [
        "",
        "localhost",
        "LOCALHOST",
        "a:",
        "a:80",
        ":80",
        "127.0.0.1:7777",
        "[::1]",
        "[::1]:",
        "[::1]:7777",
        "[::ffff:127.0.0.1]",
        "a.b-c_d~e",
        "a!$&'()*+,;=",
        "%C3%BC",
        "a80",
        "80",
    ];
    let bad = [
        "a:b",
        "a:80:80",
        "[::1",
        "::1]",
        "]",
        "[",
        "[]",
        "[zz]",
        "[1.2.3.4]",
        "[::1]80",
        "[::1]a",
        "x[::1]",
        "[[::1]]",
        "[fe80::1%25eth0]",
        "a\"b",
        "a\\b",
        "%",
        "%zz",
        "a%2",
        "a b",
        "a,b c",
        "localhost:+80",
        "localhost:-1",
        "localhost:8 0",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "http://a",
        "<a>",
        "{a}",
        "a|b",
        "a^b",
        "`a`",
        "grüße",
    ];
    for (hosts, status) in [(&good[..], 200), (&bad[..], 400)] {
        for host in hosts {
            assert_status(
                &format!("GET /headers HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                status,
            );
            let url = format!("GET http://{host}/headers HTTP/1.1\r\nHost: a\r\n\r\n");
            if host.is_empty() {
                assert_status(&url, 400);
            } else if !host.contains(['/', '?']) {
                assert_status(&url, status); // There a path or a query would begin.
            }
        }
    }
}

/// What is beyond the characters of RFC 3986 is no target, and gets no answer before step 04.
#[test]
fn a_target_is_judged_by_its_characters() {
    for target in [
        "/#", "#", "/\"", "/<", "/>", "/\\", "/^", "/`", "/{", "/}", "/|", "/%", "/%4",
        "/%zz", "/%4g", "/%%", "/a%2", "/?a=%", "/\t", "/\x7f", "/\x01", "/ü",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_status(&request, 400);
        for step in ["02-parse-request-line", "03-headers"] {
            assert_eq!(answer(step, request.as_bytes()).0, "", "{step}: {target:?}");
        }
    }
    for target in [
        "/?a[b]={}".replace("{}", "[]"),
        "/?%20%C3%bc".into(),
        "/?/?:@!$&'()*+,;=".into(),
    ] {
        assert_status(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
    }
}

/// Where the end of the content is in doubt, it is 400; where it is not, but cannot be found
/// yet, 501 (RFC 9112, sections 6.1 and 6.3).
#[test]
fn a_coding_must_end_in_chunks() {
    let status_of = |version: &str, codings: &str, status: u16| {
        let fields: String = codings
            .split('|')
            .map(|coding| format!("Transfer-Encoding: {coding}\r\n"))
            .collect();
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}");
        assert_status(&format!("{head}\r\n"), status);
        assert_status(&format!("{head}Content-Length: 5\r\n\r\nhello"), 400);
    };
    for codings in ["chunked", "Chunked", "gzip, chunked", "gzip,chunked", "gzip|chunked"]
    {
        status_of("1.1", codings, 501);
        status_of("1.0", codings, 400);
    }
    for codings in [
        "gzip",
        "chunked, gzip",
        "chunked|gzip",
        "identity",
        "",
        "chunked;q=1",
        "xchunked",
        "chunked,",
    ] {
        status_of("1.1", codings, 400);
        status_of("1.0", codings, 400);
    }
}

/// A length is digits, and a number of 64 bits (RFC 9110, section 8.6).
#[test]
fn a_length_is_judged_by_its_digits() {
    for (length, status) in [
        ("0", 200),
        ("00", 200),
        ("5", 200),
        ("9999999999999999999", 200),
        ("10000000000000000000", 400),
        ("00000000000000000005", 400),
        ("", 400),
        ("+5", 400),
        ("-5", 400),
        ("5 5", 400),
        ("5,5", 400),
        ("0x5", 400),
        ("5.0", 400),
        ("٥", 400),
    ] {
        let head =
            format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert_status(&head, status);
    }
}

/// What is wrong with a request never gives HEAD content (RFC 9110, section 9.3.2).
#[test]
fn head_gets_no_content() {
    let long = "a".repeat(9000);
    for rest in [
        "",
        " ",
        " /",
        " / ",
        "  / HTTP/1.1",
        " / HTTP/one",
        " / HTTP/2.0",
        " /# HTTP/1.1",
        " * HTTP/1.1",
        " /nowhere HTTP/1.1",
        " / HTTP/1.1\r\nno colon",
        " / HTTP/1.1\r\nHost: a b",
        &format!(" /{long}"),
        &format!(" / HTTP/1.1{long}"),
        &format!(" / HTTP/1.1\r\nX: {long}{long}"),
    ] {
        let request = format!("HEAD{rest}\r\n\r\n");
        for step in ["04-status-codes", "05-thread-per-connection"] {
            let (response, _) = answer(step, request.as_bytes());
            let is_refused =
                response.starts_with("HTTP/1.1 4") || response.starts_with("HTTP/1.1 5");
            assert!(
                is_refused && response.ends_with("\r\n\r\n"),
                "{step}, {rest:?}: {response}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing makes a step panic, or read without end. What it writes is a whole response, or
    /// nothing.
    #[test]
    fn any_bytes_are_survived(input in input()) {
        for (step, _) in EXCHANGES {
            let (response, read) = answer(step, &input);
            prop_assert!(read <= BOUND, "{step} read {read} bytes");
            if response.is_empty() {
                continue;
            }
            let (head, content) = response.split_once("\r\n\r\n").expect("a head");
            prop_assert!(head.starts_with("HTTP/1.1 "), "{step}: {head}");
            if step >= "03" && !input.windows(5).any(|part| part == b"HEAD ") {
                let length = format!("\r\nContent-Length: {}\r\n", content.len());
                prop_assert!(head.contains(&length), "{step}: {response}");
            }
        }
    }

    /// A good request line is understood as it was meant.
    #[test]
    fn a_request_line_is_understood(
        method in token(), target in target(), version in "HTTP/[0-9]\\.[0-9]"
    ) {
        let request = format!("{method} {target} {version}\r\n\r\n");
        let understood = format!("Method {method}, target {target}, version {version}.\n");
        for step in ["02-parse-request-line", "03-headers"] {
            let (response, _) = answer(step, request.as_bytes());
            prop_assert!(response.contains(&understood), "{step}: {response}");
        }
    }

    /// HEAD announces what GET would get (RFC 9110, section 8.6).
    #[test]
    fn head_is_get_without_its_content(path in "/(headers|coffee|nowhere)?", host in "[a-z]{0,9}") {
        let request = |method| format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for step in ["04-status-codes", "05-thread-per-connection"] {
            let (get, _) = answer(step, request("GET").as_bytes());
            let (head, _) = answer(step, request("HEAD").as_bytes());
            prop_assert_eq!(get.split_inclusive("\r\n\r\n").next(), Some(head.as_str()));
        }
    }

    /// Good field lines are understood as they were meant, with any white space around them.
    #[test]
    fn field_lines_are_understood(fields in fields(), space in "[ \t]{0,3}") {
        let mut request = "GET /headers HTTP/1.0\r\n".to_string();
        let mut understood = String::new();
        for (name, value) in &fields {
            request += &format!("{name}:{space}{value}{space}\r\n");
            understood += &format!("{name}: {value}\n");
        }
        let (response, _) = answer("03-headers", (request + "\r\n").as_bytes());
        prop_assert!(response.ends_with(&understood), "{response}");
    }
}
