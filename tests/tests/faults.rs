//! One fault at a time: servers that are a step but for one thing, what the checker says of each,
//! and whether its `Again:` shows it.
//!
//! What cannot be told apart over TCP, in reasonable time, is in none of these: what stands in the
//! log, and whether control characters are escaped there; how much memory a request may take
//! beyond the limits that sessions try (a line of 9000 bytes, fields of 20,000: a limit of 8500 or
//! of 19,000 passes); how many threads there may be, and what happens when there is none to be had;
//! how long and how much a server lingers, beyond a megabyte; a time limit of seven seconds in
//! place of six; whether it listens on the address that it was given alone; its exit code; reason
//! phrases, most words, and the order of fields, which the RFCs leave open.

mod variants;

use replayer::server::{root, step_names};
use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};
use variants::FAULTS;
use variants::Fault;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many variants are checked side by side: they wait more than they work.
const WIDTH: usize = 10;

/// A port that is free, and stays so: it is below those that a system gives out by itself.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(24_000);
    for _ in 0..4_000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

/// A server that is ended when this is dropped.
struct Running(Child, String);

impl Running {
    fn start(binary: &Path) -> Result<Running> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(binary);
        command.arg(&address).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(command.spawn()?, address);
        let start = Instant::now();
        while TcpStream::connect(&running.1).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err(format!("{} does not listen", binary.display()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// What a command shows of it, and whether it has ended by then.
    fn show(&mut self, again: &str, address: &str) -> Result<(String, bool)> {
        let again = again.replace(address, &self.1);
        let again = again.replace("cargo how-far", env!("CARGO_BIN_EXE_checker"));
        let output = Command::new("sh").args(["-c", &again]).output()?;
        let said = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).replace(&self.1, "ADDRESS"));
        let start = Instant::now();
        let mut is_over = self.0.try_wait()?.is_some();
        while !is_over && start.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(10));
            is_over = self.0.try_wait()?.is_some();
        }
        Ok((format!("{said:?} {}", output.status), is_over))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Checks one variant. Returns what is wrong with what the checker says of it.
fn try_out(fault: &Fault, binary: &Path, right: &Path) -> Result<Option<String>> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args([&address, "--"])
        .arg(binary)
        .arg(&address)
        .env_remove("RUST_BACKTRACE")
        .output()?;
    let time = start.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // What is wrapped is one text.
    let text = said.split_whitespace().collect::<Vec<_>>().join(" ");
    // Which of several comes first is the chapters' order.
    let name = fault.session;
    let mut wrong = Vec::new();
    for part in [fault.verdict, name, fault.what] {
        if !text.contains(part) {
            wrong.push(format!("it does not say {part:?}"));
        }
    }
    if output.status.code() != Some(1) && !fault.is_slow {
        wrong.push(format!("it ends with {:?}", output.status));
    }
    let again = said.lines().find_map(|line| line.strip_prefix("Again:     "));
    match again {
        None if fault.is_slow || fault.name == "leaks" => {}
        None => wrong.push("it does not say how to see it again".to_string()),
        Some(again) => {
            // A fault that comes and goes is to be seen in a few attempts.
            let mut attempts = Vec::new();
            for _ in 0..if fault.is_rare { 12 } else { 1 } {
                let (mut wrong, mut right) =
                    (Running::start(binary)?, Running::start(right)?);
                for _ in 0..if fault.is_rare { 9 } else { 1 } {
                    attempts.push((
                        wrong.show(again, &address)?,
                        right.show(again, &address)?,
                    ));
                }
                if attempts.iter().any(|(wrong, right)| wrong != right) {
                    break;
                }
            }
            if attempts.iter().all(|(wrong, right)| wrong == right) {
                wrong.push(format!("Again: shows the same: {:?}", attempts.first()));
            }
        }
    }
    let lines = said.lines().map(|line| line.chars().count().max(1).div_ceil(80));
    let lines: usize = lines.sum();
    if lines > 23 {
        wrong.push(format!("{lines} lines do not fit on a screen"));
    }
    if time > Duration::from_secs(30) {
        wrong.push(format!("it takes {time:?}"));
    }
    let report = format!("{} ({time:.1?}): {}\n{said}", fault.name, wrong.join("; "));
    println!("{report}");
    Ok((!wrong.is_empty()).then_some(report))
}

/// Tries out variants, some side by side.
fn try_all(faults: &[&Fault]) -> Result {
    let names = step_names(&root())?;
    let mut sources = Vec::new();
    for name in &names {
        let source =
            fs::read_to_string(root().join(format!("steps/{name}/src/main.rs")))?;
        sources.push((name[..2].to_string(), source));
    }
    for fault in faults {
        let source = sources.iter().find(|(step, _)| step == fault.step);
        let mut source = source.ok_or("no such step")?.1.clone();
        for (old, new) in fault.edits {
            let count = source.matches(old).count();
            if count != 1 {
                return Err(
                    format!("{}: {old:?} is there {count} times", fault.name).into()
                );
            }
            source = source.replace(old, new);
        }
        sources.push((fault.name.to_string(), source));
    }
    let binaries: Vec<PathBuf> = variants::build_all(&sources)?;
    let binary = |name: &str| {
        let at = sources.iter().position(|(known, _)| known == name);
        at.map(|at| binaries[at].as_path()).ok_or("no such variant")
    };
    let todo = Mutex::new(faults.iter());
    let reports = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WIDTH {
            scope.spawn(|| {
                while let Some(fault) = todo.lock().ok().and_then(|mut todo| todo.next())
                {
                    let result = binary(fault.name)
                        .map_err(Into::into)
                        .and_then(|own| try_out(fault, own, binary(fault.step)?));
                    let report = match result {
                        Ok(report) => report,
                        Err(error) => Some(format!("{}: {error}", fault.name)),
                    };
                    if let (Some(report), Ok(mut reports)) = (report, reports.lock()) {
                        reports.push(report);
                    }
                }
            });
        }
    });
    let reports = reports.into_inner()?;
    if reports.is_empty() { Ok(()) } else { Err(reports.join("\n").into()) }
}

#[test]
fn a_few_are_told_their_fault() -> Result {
    let few = ["one_says_lf", "two_decodes", "four_without_a_status"];
    let faults: Vec<&Fault> =
        FAULTS.iter().filter(|fault| few.contains(&fault.name)).collect();
    try_all(&faults)
}

#[test]
#[ignore = "takes minutes: .ci/run runs it"]
fn each_is_told_its_fault() -> Result {
    // Some take long, and begin first.
    let mut faults: Vec<&Fault> = FAULTS.iter().collect();
    faults.sort_by_key(|fault| !(fault.is_slow || fault.is_rare));
    try_all(&faults)
}
