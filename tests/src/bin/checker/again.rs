//! A command that shows a conversation again, in any shell.

use replayer::judge::Fault;
use replayer::session::{Event, Line};
use std::net::SocketAddr;

/// The longest command that one would take over, in bytes.
const MAX_LENGTH: usize = 320;
/// How long a client that waits for others stays, in seconds.
const STAY: u32 = 8;

/// A command that sends what the clients send: each but the last in the background, where it stays
/// for a while, and a second after the one before. When no shell can do so, this checker can.
pub fn again(
    lines: &[Line],
    address: SocketAddr,
    session: &str,
    fault: &Fault,
) -> String {
    // If the silence is broken, nothing need be said after it.
    let is_broken = fault.expected == "(silence)";
    let end = lines.iter().position(|line| line.event == Event::Silence);
    let end = end.filter(|_| is_broken).map_or(lines.len(), |end| end + 1);
    let lines = &lines[..end];
    typed(lines, address)
        .filter(|command| command.len() < MAX_LENGTH)
        .unwrap_or_else(|| format!("cargo how-far {address} --session {session}"))
}

fn typed(lines: &[Line], address: SocketAddr) -> Option<String> {
    let mut clients: Vec<(&str, Vec<String>)> = Vec::new();
    let mut leaves = false;
    let mut is_long = false;
    for line in lines {
        let index = clients.iter().position(|client| client.0 == line.client);
        let index = index.unwrap_or_else(|| {
            clients.push((&line.client, Vec::new()));
            clients.len() - 1
        });
        let pieces = &mut clients[index].1;
        match &line.event {
            Event::Send(bytes) => match (repeated(bytes), pieces.last_mut()) {
                (Some(command), _) => pieces.push(command),
                (None, Some(last)) if last.starts_with("printf") => {
                    last.pop();
                    *last += &format!("{}'", octal(bytes));
                }
                (None, _) => pieces.push(format!("printf '{}'", octal(bytes))),
            },
            Event::Silence => {
                // Who comes later has been served, or not, by then.
                let time = if line.client.is_empty() { 2 } else { 4 };
                pieces.push(format!("sleep {time}"));
            }
            Event::Receive(bytes) => {
                let text: Vec<u8> = bytes.iter().copied().flatten().take(13).collect();
                is_long |= text == b"HTTP/1.1 408 ";
            }
            Event::Close if clients.len() > 1 => {}
            Event::Close => leaves = true,
            Event::HalfClose | Event::Reset => return None,
            _ => {}
        }
    }
    let count = clients.len();
    let commands = clients.into_iter().enumerate().map(|(index, (_, mut pieces))| {
        let is_last = index + 1 == count;
        if !is_last || is_long {
            pieces.pop_if(|last| last.starts_with("sleep"));
            pieces.push(format!("sleep {STAY}"));
        }
        let typed = match &pieces[..] {
            [] => ":".to_string(),
            [typed] => typed.clone(),
            pieces => format!("({})", pieces.join("; ")),
        };
        let time = match () {
            () if leaves => 1,
            () if is_last
                && count > 1
                && !pieces.iter().any(|it| it.starts_with("sleep")) =>
            {
                2
            }
            () if is_last && !is_long => 5,
            () => STAY + 4,
        };
        format!("{typed} | curl -sS --max-time {time} telnet://{address}")
    });
    Some(commands.collect::<Vec<_>>().join(" & sleep 1; "))
}

/// Bytes as every shell's printf takes them.
fn octal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\r' => text += "\\r",
            b'\n' => text += "\\n",
            b'\t' => text += "\\t",
            b'\\' => text += "\\\\",
            b'%' => text += "%%",
            b'\'' => text += "'\\''",
            b' '..=b'~' => text.push((*byte).into()),
            _ => text += &format!("\\{byte:03o}"),
        }
    }
    text
}

/// A command that says the same thing very often.
fn repeated(bytes: &[u8]) -> Option<String> {
    if bytes.len() < 500 {
        return None;
    }
    let size = (1..=100).find(|&size| bytes[size..] == bytes[..bytes.len() - size])?;
    let (one, times) = (&bytes[..size], bytes.len() / size);
    match one {
        [byte] if byte.is_ascii_graphic() => {
            Some(format!("head -c {times} /dev/zero | tr '\\0' {}", char::from(*byte)))
        }
        [line @ .., b'\n'] => {
            Some(format!("yes \"$(printf '{}')\" | head -n {times}", octal(line)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn every_shell_says_what_the_client_says() {
        for bytes in [
            b"GET /50%?a='b\\c' HTTP/1.1\r\nX: \t\xe9\x00\xff7\r\n\r\n".to_vec(),
            b"x".repeat(10_000),
            b"X-More: and more\r\n".repeat(2000),
        ] {
            let command =
                repeated(&bytes).unwrap_or_else(|| format!("printf '{}'", octal(&bytes)));
            for shell in ["sh", "bash"] {
                let output =
                    Command::new(shell).args(["-c", &command]).output().expect(shell);
                assert_eq!(output.stdout, bytes, "{shell}: {command}");
            }
        }
    }
}
