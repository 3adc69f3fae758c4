//! Every session of one client, held with each step as a page holds it.

use replayer::server::{root, step_names};
use replayer::session::{Event, Line, Session, escape, read_all};
use std::error::Error;
use r#try::{Client, EXCHANGES, End, Heard, hold};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// From this step on, a client that says nothing more is told so.
const TIMES: usize = 5;

#[test]
fn sessions_go_as_in_their_files() -> Result {
    let names = step_names(&root())?;
    assert_eq!(names.len(), EXCHANGES.len(), "a step is missing in book/try/src/lib.rs");
    let sessions = read_all(&root().join("tests/sessions"), &names)?;
    let (mut count, mut faults) = (0, String::new());
    for (step, name) in names.iter().enumerate() {
        for session in &sessions {
            let lines = session.lines(name);
            if lines.iter().all(|line| line.client.is_empty()) {
                count += 1;
                if let Err(fault) = play(step + 1, session, &lines) {
                    faults += &format!("{name} {}: {fault}\n", session.name);
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
    assert!(count > 300, "only {count} conversations");
    Ok(())
}

/// Does what the client does, and compares what it hears to what it should hear.
fn play(step: usize, session: &Session, lines: &[Line]) -> Result {
    let mut client = Client::default();
    let mut expected = Vec::new();
    let mut is_sending = false; // All that is sent before one listens arrives in one piece.
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).map(|line| &line.event);
        let was_sending = std::mem::replace(&mut is_sending, false);
        match &line.event {
            Event::Send(bytes) => {
                match client.pieces.back_mut() {
                    Some(piece) if was_sending => piece.extend_from_slice(bytes),
                    _ => client.pieces.push_back(bytes.clone()),
                }
                is_sending = true;
            }
            Event::Close | Event::HalfClose => client.end = End::Closed,
            Event::Reset => client.end = End::Reset,
            Event::Silence => {
                let heard = hold(step, client.clone());
                expect(heard.log.is_none(), "it waits", &heard)?;
                let is_late = matches!(next, Some(Event::Receive(_)));
                if is_late && step >= TIMES {
                    client.end = End::TimedOut;
                }
            }
            Event::Receive(bytes) => {
                expected.extend(bytes.iter().map(|byte| byte.unwrap_or(b'*')));
                if !matches!(next, Some(Event::Receive(_))) {
                    let heard = hold(step, client.clone());
                    expect(heard.answer == expected, &escape(&expected), &heard)?;
                }
            }
            Event::ServerClose => {
                let heard = hold(step, client.clone());
                expect(
                    heard.log.is_some() && heard.answer.is_empty(),
                    "it closes",
                    &heard,
                )?;
            }
            Event::MayBeLost | Event::Matters(_) => {}
        }
    }
    let heard = hold(step, client);
    expect(heard.log.is_some(), &format!("{} ends", session.name), &heard)
}

fn expect(is_so: bool, expected: &str, heard: &Heard) -> Result {
    if is_so {
        return Ok(());
    }
    let came = escape(&heard.answer);
    Err(format!("expected {expected}, came {came} {:?}", heard.log).into())
}

#[test]
fn no_client_keeps_a_page() {
    for step in 1..=EXCHANGES.len() {
        let endless =
            Client { pieces: vec![b"a".to_vec(); 100_000].into(), ..Client::default() };
        let heard = hold(step, endless);
        assert!(heard.log.is_some(), "step {step} waits for what will never come");
        let long = Client { pieces: [vec![b'a'; 1 << 20]].into(), ..Client::default() };
        assert!(hold(step, long).log.is_some(), "step {step} reads a megabyte");
    }
}
