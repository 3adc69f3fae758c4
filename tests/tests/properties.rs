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
    let _ = exchange(&mut memory); // The line for the log.
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
        method in token(), target in "[!-~]{1,100}", version in "HTTP/[0-9]\\.[0-9]"
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
