//! What the checker says of servers that we know.

use replayer::server::build;
use serde_json::Value;
use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A server as The Rust Book's reader, or any tutorial's, might have it.
const CLASSIC: &str = "
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(('127.0.0.1', int(sys.argv[1])))
server.listen()
while True:
    connection, _ = server.accept()
    try:
        if connection.recv(1024):
            connection.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\nHello from Python!\\n')
    except ConnectionError:
        pass
    connection.close()
";

fn checker(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checker"));
    Ok(command.args(arguments).env_remove("RUST_BACKTRACE").output()?)
}

/// A port that is free, and stays so: it is below those that a system gives out by itself, and no
/// other test here gets it.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    for _ in 0..10_000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

/// What the checker says, as JSON, of a server that takes its address as its last argument.
fn check(command: &[&str], is_port: bool) -> Result<Value> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let last = if is_port { port.to_string() } else { address.clone() };
    let mut arguments = vec!["--json", &address, "--"];
    arguments.extend(command);
    arguments.push(&last);
    let output = checker(&arguments)?;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).map_err(|error| format!("{error}: {output:?}").into())
}

/// What it says of a session that failed.
fn fault<'a>(result: &'a Value, session: &str) -> &'a str {
    let failures = result["failures"].as_array().map_or(&[][..], Vec::as_slice);
    let found = failures.iter().find(|failure| failure["session"] == session);
    found.and_then(|failure| failure["what"].as_str()).unwrap_or("(passed)")
}

#[test]
fn each_step_is_that_step_and_no_more() -> Result {
    let steps = build()?;
    thread::scope(|scope| {
        let checks: Vec<_> = steps
            .iter()
            .map(|step| {
                let binary = step.binary.to_string_lossy().into_owned();
                let check =
                    move || check(&[&binary], false).map_err(|error| error.to_string());
                (&step.name, scope.spawn(check))
            })
            .collect();
        for (name, check) in checks {
            let result = check.join().map_err(|_| "a panic")??;
            assert_eq!(result["step"], **name, "{result:#}");
        }
        Ok(())
    })
}

fn python() -> Result<&'static str> {
    let found = Command::new("python3").arg("--version").output();
    found.map_err(|_| "this test needs python3, which is not here")?;
    Ok("python3")
}

#[test]
fn the_classic_in_python_is_step_01() -> Result {
    let result = check(&[python()?, "-c", CLASSIC], true)?;
    assert_eq!(result["step"], "01-raw-socket", "{result:#}");
    assert_eq!(result["next"], "02-parse-request-line");
    let what = fault(&result, "half_a_line");
    assert!(what.starts_with("It answers too early"), "{result:#}");
    Ok(())
}

/// A server that serves all clients at once, answers HEAD as it should, and takes a tenth of a
/// second for each answer: what step 03 does, and better, but slowly.
const GENTLE: &str = "
import re, socketserver, sys, time
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        line, size = b'\\r\\n', 0
        while line in (b'\\r\\n', b'\\n') and size < 8192:
            line = self.rfile.readline(8193)
            size += len(line)
        token = set(b\"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\")
        parts = line.rstrip(b'\\r\\n').split(b' ')
        if line[-1:] != b'\\n' or len(parts) != 3 or not parts[0] or not set(parts[0]) <= token:
            return
        method, target, version = parts
        if not re.fullmatch(rb\"([-\\w.~:/?\\[\\]@!$&'()*+,;=]|%[0-9a-fA-F]{2})+\", target, re.A):
            return
        if len(version) != 8 or version[:5] != b'HTTP/' or version[6:7] != b'.':
            return
        fields, size = [], 0
        while True:
            line = self.rfile.readline(16385)
            size += len(line)
            if line[-1:] != b'\\n' or size > 16384:
                return
            line = line[:-2] if line[-2:] == b'\\r\\n' else line[:-1]
            if not line:
                break
            name, colon, value = line.partition(b':')
            if not colon or not name or not set(name) <= token:
                return
            if any(byte < 32 and byte != 9 or byte == 127 for byte in value):
                return
            fields.append((name, value.strip()))
        text = b'Method %s, target %s, version %s.\\n' % (method, target, version)
        hosts = [value for name, value in fields if name.lower() == b'host']
        text += b'You call me %s.\\n' % b' and '.join(hosts)
        text += b''.join(b'%s: %s\\n' % field for field in fields)
        time.sleep(0.1)
        head = b'HTTP/1.1 200 Fine\\r\\ncontent-type: text/plain\\r\\n'
        head += b'content-length: %d\\r\\nconnection: close\\r\\n\\r\\n' % len(text)
        try:
            self.wfile.write(head + (b'' if method == b'HEAD' else text))
        except ConnectionError:
            pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    def handle_error(self, request, address):
        pass
Server(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

#[test]
fn a_server_may_be_slow_and_serve_all_at_once_and_know_head() -> Result {
    let start = Instant::now();
    let result = check(&[python()?, "-c", GENTLE], true)?;
    assert_eq!(result["step"], "03-headers", "{result:#}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn the_conversation_that_ended_a_server_is_named() -> Result {
    // It dies a moment after its answer, when the next client may have come already.
    let late = "if b'HEAD' in data: connection.close(); time.sleep(0.1); sys.exit(3)";
    let late = CLASSIC
        .replace("import socket, sys", "import socket, sys, time")
        .replace(
            "if connection.recv(1024):",
            "data = connection.recv(1024)\n        if data:",
        )
        .replace(
            "    connection.close()\n",
            &format!("    {late}\n    connection.close()\n"),
        );
    let result = check(&[python()?, "-c", &late], true)?;
    let failures = result["failures"].as_array().ok_or("no failures")?;
    let has_ended = |failure: &&Value| {
        failure["what"].as_str().is_some_and(|what| what.contains("has ended"))
    };
    let ended: Vec<_> = failures.iter().filter(has_ended).collect();
    let is_head = |failure: &&Value| {
        failure["session"]
            .as_str()
            .is_some_and(|name| name.starts_with("head_") || name == "head")
    };
    assert!(!ended.is_empty() && ended.iter().all(is_head), "{result:#}");
    Ok(())
}

#[test]
fn pythons_own_server_is_like_none_but_gets_counsel() -> Result {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let command =
        [python()?, "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder];
    let result = check(&command, true)?;
    assert_eq!(result["step"], Value::Null, "{result:#}");
    assert_eq!(fault(&result, "headers"), "The status is 404, and should be 200.");
    assert_eq!(fault(&result, "version_0_9"), "This is not a status line.");
    Ok(())
}

#[test]
fn a_server_that_hangs_gets_a_verdict_in_time() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        let connections: Vec<_> = listener.incoming().collect();
        drop(connections);
    });
    let start = Instant::now();
    let output = checker(&[&address])?;
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No answer within 2s."), "{said}");
    assert!(said.contains("not played: it has answered nothing so far."), "{said}");
    Ok(())
}

#[test]
fn a_failure_is_told_as_a_teacher_would() -> Result {
    let step = &build()?[2];
    let address = format!("127.0.0.1:{}", free_port()?);
    let binary = step.binary.to_string_lossy();
    let output = checker(&[
        "--session",
        "no_colon",
        "--step",
        "04",
        &address,
        "--",
        &binary,
        &address,
    ])?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let is_short = |line: &str| line.chars().count() <= 80;
    let may_be_long =
        |line: &str| ["Again: ", "First: "].contains(&&line[..7.min(line.len())]);
    assert!(said.lines().all(|line| is_short(line) || may_be_long(line)), "{said}");
    for text in [
        "A header without a colon (no_colon)",
        "    > Host localhost\n",
        "It closes without an answer.",
        "    expected  HTTP/1.1 400 Bad Request\\r\\n\n    came      (closed)\n              ^",
        "The rule:  RFC 9112, section 5.1: ",
        "The book:  Step 04: status codes, “Stage 04c: ",
        "           (book/src/04-status-codes.md)",
        "Again:     printf 'GET /headers HTTP/1.1\\r\\nHost localhost\\r\\n\\r\\n' | curl",
    ] {
        assert!(said.contains(text), "{text:?} is not in:\n{said}");
    }
    Ok(())
}

#[test]
fn junit_is_never_empty() -> Result {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nothing.xml");
    let path = file.to_string_lossy();
    let address = format!("127.0.0.1:{}", free_port()?);
    let output = checker(&["--json", "--junit", &path, &address])?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let xml = fs::read_to_string(&file)?;
    assert!(xml.contains("<error message=\"Nothing listens on 127.0.0.1:"), "{xml}");
    let result: Value = serde_json::from_slice(&output.stdout)?;
    assert!(result["error"].as_str().is_some_and(|text| text.starts_with("Nothing")));
    Ok(())
}

#[test]
fn a_class_is_shown_in_a_table() -> Result {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("results");
    fs::create_dir_all(&folder)?;
    let mut files = vec!["--table".to_string()];
    let mut write = |name: &str, text: &str| {
        let file = folder.join(name);
        files.push(file.to_string_lossy().into_owned());
        fs::write(file, text)
    };
    let result = check(&[python()?, "-c", CLASSIC], true)?;
    write("ada.json", &result.to_string())?;
    write("bob.json", "")?;
    write("cleo.json", r#"{ "error": "Nothing listens on 127.0.0.1:7777" }"#)?;
    let arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = checker(&arguments)?;
    let said = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(lines[0].starts_with("name  step"), "{said}");
    assert!(lines[1].starts_with("ada   01-raw-socket  02: "), "{said}");
    // Which comes first is for the book to say.
    let first = ["session", "what"].map(|key| result["first"][key].as_str());
    let [Some(session), Some(what)] = first else { return Err(said.into()) };
    assert!(lines[1].contains(&format!("  {session}: {what}")), "{said}");
    assert!(lines[2].starts_with("bob   ?"), "{said}");
    assert!(lines[3].contains("Nothing listens on"), "{said}");
    Ok(())
}

#[test]
fn an_address_is_taken_as_servers_print_it() -> Result {
    let step = &build()?[0];
    let port = free_port()?.to_string();
    for address in [
        port.clone(),
        format!(":{port}"),
        format!("localhost:{port}"),
        format!("http://127.0.0.1:{port}/"),
    ] {
        let own = format!("127.0.0.1:{port}");
        let binary = step.binary.to_string_lossy();
        let arguments =
            ["--session", "coffee", "--step", "1", &address, "--", &binary, &own];
        let output = checker(&arguments)?;
        assert_eq!(output.status.code(), Some(0), "{address}: {output:?}");
    }
    Ok(())
}

#[test]
fn a_daemon_goes_on_in_the_background_and_is_ended() -> Result {
    let daemon = format!(
        "import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for descriptor in range(3): os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
{CLASSIC}"
    );
    let port = free_port()?.to_string();
    let arguments = [
        "--step",
        "1",
        "--session",
        "coffee",
        &port,
        "--",
        python()?,
        "-c",
        &daemon,
        &port,
    ];
    let output = checker(&arguments)?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Only Linux tells who has left the group of processes.
    if cfg!(target_os = "linux") {
        assert!(TcpListener::bind(("127.0.0.1", port.parse()?)).is_ok(), "it goes on");
    }
    Ok(())
}

#[test]
fn the_third_hint_is_code() -> Result {
    let step = &build()?[1];
    let address = format!("127.0.0.1:{}", free_port()?);
    let binary = step.binary.to_string_lossy();
    let mut hints = Vec::new();
    for number in ["1", "2", "3"] {
        let output = checker(&[
            "--hint", number, "--step", "3", &address, "--", &binary, &address,
        ])?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        hints.push(String::from_utf8(output.stdout)?);
    }
    assert!(hints.iter().all(|hint| hint.contains("(enter_once): ")), "{hints:?}");
    assert_ne!(hints[0], hints[1]);
    assert!(hints[2].contains("\n+    /// All values of this field."), "{hints:?}");
    Ok(())
}

#[test]
fn each_save_is_checked() -> Result {
    use std::io::{BufRead, BufReader};
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("watched");
    fs::create_dir_all(&folder)?;
    let file = folder.join("server.py");
    let silent = CLASSIC.replace("connection.sendall(", "str(");
    fs::write(&file, &silent)?;
    let port = free_port()?.to_string();
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_checker"))
        .current_dir(&folder)
        .args(["--watch", "--session", "coffee", "--step", "1", &port])
        .args(["--", python()?, "server.py", &port])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let output = BufReader::new(watcher.stdout.take().ok_or("no output")?).lines();
    let (sender, lines) = std::sync::mpsc::channel();
    thread::spawn(move || {
        output.map_while(|line| line.ok()).try_for_each(|line| sender.send(line))
    });
    let mut seen = String::new();
    let mut wait_for = |text: &str| -> Result {
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(30)) {
            seen += &format!("{line}\n");
            if line.contains(text) {
                return Ok(());
            }
        }
        Err(format!("no {text:?} in {seen}").into())
    };
    wait_for("In 01-raw-socket it should do something else.")?;
    wait_for("Save a file")?;
    fs::write(&file, CLASSIC)?;
    let result = wait_for("Just won: coffee.")
        .and_then(|()| wait_for("your server does what it should in 01-raw-socket."));
    watcher.kill()?;
    watcher.wait()?;
    result
}

#[test]
fn junit_has_a_suite_for_each_step() -> Result {
    let step = &build()?[4];
    let address = format!("127.0.0.1:{}", free_port()?);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("junit.xml");
    let path = file.to_string_lossy();
    let binary = step.binary.to_string_lossy();
    let output =
        checker(&["--exact", "--junit", &path, &address, "--", &binary, &address])?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let xml = fs::read_to_string(&file)?;
    assert!(xml.contains("<testsuite name=\"05-thread-per-connection\""), "{xml}");
    assert!(xml.contains("<testcase name=\"no_colon\""), "{xml}");
    Ok(())
}

#[test]
fn what_cannot_be_checked_is_said_in_a_line() -> Result {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let free = format!("127.0.0.1:{}", free_port()?);
    for (arguments, report) in [
        (vec!["--", "no-such-server"], "no-such-server does not listen on 127.0.0.1:"),
        (vec!["--", "false"], "it ended with exit code 1"),
        (
            vec!["--", "sh", "-c", "echo wrong turn >&2; exit 4"],
            "exit code 4: wrong turn",
        ),
        (vec![], "Nothing listens on 127.0.0.1:"),
        (vec!["--step", "09"], "There is no step 09, only 01-raw-socket, 02-"),
        (vec!["--session", "no-such-session"], "There is no session no-such-session."),
    ] {
        let output = checker(&[&[free.as_str()], &arguments[..]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains(report) && said.lines().count() <= 2,
            "{arguments:?}: {said}"
        );
    }
    for (address, report) in
        [("nonsense", "\"nonsense\" is not an address"), (&taken, "Something listens on")]
    {
        let output = checker(&[address, "--", "true"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{address}: {said}");
        assert!(said.contains(report) && said.lines().count() <= 2, "{address}: {said}");
    }
    Ok(())
}
