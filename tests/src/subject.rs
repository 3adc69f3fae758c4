//! A server that is not ours: it is started and stopped, or runs already.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long a command may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what a command has left behind may take, when it has ended itself.
const DAEMON_PATIENCE: Duration = Duration::from_secs(3);
/// How long one attempt to connect may take.
const TRY: Duration = Duration::from_millis(500);
/// How much of what it prints is kept, in bytes: its last words.
const LAST_WORDS: usize = 2000;
/// The variable by which all that a command has started is known.
const MARK: &str = "HOW_FAR_SUBJECT";
/// The server in front, and behind it a guard, who ends all of it when this process is gone, in
/// whatever way: its process group, and on Linux also what has left that, by the mark.
const GUARDED: &str = r#"mark=$1; shift; exec 3<&0
marked() { grep -ls "HOW_FAR_SUBJECT=$mark" /proc/[0-9]*/environ | cut -d/ -f3; }
{
  cat <&3 >/dev/null; trap '' TERM; kill 0; kill $(marked)
  for _ in 1 2 3 4 5 6 7 8 9 10; do [ -n "$(marked)" ] && sleep 0.1; done
  kill -9 $(marked); kill -9 0
} >/dev/null 2>&1 &
exec 3<&-; HOW_FAR_SUBJECT=$mark "$@" </dev/null"#;

/// A server to be checked.
pub struct Subject {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it may listen: a name may have several addresses.
    addresses: Vec<SocketAddr>,
    command: Vec<OsString>,
    child: Option<Child>,
    /// Whether the command has ended, and what it has started listens.
    is_daemon: bool,
    mark: String,
    words: Arc<Mutex<Vec<u8>>>,
}

/// The addresses that a text means: `127.0.0.1:7777`, `localhost`, `7777`, or a URL with these.
///
/// # Errors
/// When it means none.
pub fn addresses(text: &str) -> Result<Vec<SocketAddr>> {
    let host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let is_number =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let host = match host.strip_prefix(':').unwrap_or(host) {
        port if is_number(port) => format!("localhost:{port}"),
        host if host.rsplit_once(':').is_some_and(|(_, port)| is_number(port)) => {
            host.to_string()
        }
        host => format!("{host}:7777"),
    };
    let found = host.to_socket_addrs().ok().map(Iterator::collect).unwrap_or_default();
    let mut found: Vec<SocketAddr> = found;
    found.sort_by_key(SocketAddr::is_ipv6);
    found.dedup();
    let Some(first) = found.first() else {
        bail!("{text:?} is not an address: it should be like 127.0.0.1:7777")
    };
    if first.port() == 0 {
        bail!("Say on which port it listens: nothing listens on 0");
    }
    Ok(found)
}

/// Makes a good request, since to connect and to leave is more than some survive. Says whether
/// anything comes within a time.
pub fn request(mut stream: TcpStream, time: Duration) -> bool {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.set_read_timeout(Some(time)).is_ok()
        && stream.write_all(request).is_ok()
        && stream.read(&mut [0; 4096]).is_ok_and(|size| size > 0)
}

impl Subject {
    /// A server that runs already.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn running(addresses: &[SocketAddr]) -> Result<Subject> {
        let mut error = None;
        for &address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    request(stream, TRY);
                    return Ok(Subject::new(vec![address], &[]));
                }
                Err(why) => error = error.or(Some(why)),
            }
        }
        let address = addresses.first().context("no address")?;
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        bail!(
            "Nothing listens on {address}{why}. Start your server in another terminal, or let \
             this start it: cargo how-far -- COMMAND"
        )
    }

    fn new(addresses: Vec<SocketAddr>, command: &[OsString]) -> Subject {
        let address = addresses.first().copied().unwrap_or(([127, 0, 0, 1], 7777).into());
        let (child, is_daemon, mark, words) = Default::default();
        let command = command.to_vec();
        Subject { address, addresses, command, child, is_daemon, mark, words }
    }

    /// Starts a command, and waits until it listens on one of the addresses.
    ///
    /// # Errors
    /// When something else listens there, when it cannot be started, ends, or does not listen.
    pub fn start(addresses: &[SocketAddr], command: &[OsString]) -> Result<Subject> {
        for address in addresses {
            if TcpStream::connect_timeout(address, TRY).is_ok() {
                bail!(
                    "Something listens on {address} already: end it, or name another address"
                );
            }
        }
        let mut subject = Subject::new(addresses.to_vec(), command);
        subject.restart()?;
        Ok(subject)
    }

    /// The command that starts it, or nothing.
    pub fn command(&self) -> String {
        let words = self.command.iter().map(|word| {
            let word = word.to_string_lossy();
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
            match !word.is_empty() && word.chars().all(is_plain) {
                true => word.into_owned(),
                false => format!("'{}'", word.replace('\'', "'\\''")),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Starts the command again.
    ///
    /// # Errors
    /// As `start`.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let name = self.command();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.mark = format!("{}-{}", process::id(), now.unwrap_or_default().as_nanos());
        let mut shell = Command::new("sh");
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut child = shell
            .args(["-c", GUARDED, "sh", &self.mark])
            .args(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run sh")?;
        self.words = Arc::default();
        self.is_daemon = false;
        let log = child.stdout.take().map(|it| Box::new(it) as Box<dyn Read + Send>);
        let errors = child.stderr.take().map(|it| Box::new(it) as Box<dyn Read + Send>);
        for (output, is_log) in [(log, true), (errors, false)] {
            let Some(mut output) = output else { continue };
            let words = Arc::clone(&self.words);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(size @ 1..) = output.read(&mut buffer) {
                    // What is logged does not say why it ends.
                    if let (Ok(mut words), false) = (words.lock(), is_log) {
                        words.extend_from_slice(&buffer[..size]);
                        let excess = words.len().saturating_sub(LAST_WORDS);
                        words.drain(..excess);
                    }
                }
            });
        }
        self.child = Some(child);
        let start = Instant::now();
        loop {
            let code = self.exit_code();
            let is_up = |address: &&SocketAddr| {
                let stream = TcpStream::connect_timeout(address, TRY);
                stream.is_ok_and(|stream| {
                    request(stream, TRY);
                    true
                })
            };
            if let Some(address) = self.addresses.iter().find(is_up) {
                self.address = *address;
                self.is_daemon = code == Some(0);
                return Ok(());
            }
            let time = if code == Some(0) { DAEMON_PATIENCE } else { PATIENCE };
            if code.is_some_and(|code| code != 0) || start.elapsed() > time {
                thread::sleep(Duration::from_millis(20)); // For what it has said last.
                let words = self.last_words();
                self.stop();
                let at = self.address;
                let why = match code {
                    Some(127) => format!("there is no such command{words}"),
                    Some(126) => format!("it cannot be executed{words}"),
                    Some(code) => format!("it ended with exit code {code}{words}"),
                    None => format!(
                        "nothing listens there within {PATIENCE:?}{words}. If it listens \
                         elsewhere, say where: cargo how-far ADDRESS -- {name}"
                    ),
                };
                bail!("{name} does not listen on {at}: {why}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it can be started again.
    pub fn is_ours(&self) -> bool {
        !self.command.is_empty()
    }

    fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.code().unwrap_or(-1))
    }

    /// How the server has ended, if it does within a time: with which exit code and last words.
    pub fn ended(&mut self, time: Duration) -> Option<String> {
        let deadline = Instant::now() + time;
        if self.child.is_none() || self.is_daemon {
            thread::sleep(time);
            return (!self.listens()).then(|| "and nothing listens any more".to_string());
        }
        loop {
            if let Some(code) = self.exit_code() {
                thread::sleep(Duration::from_millis(20)); // For what it has said last.
                return Some(format!("with exit code {code}{}", self.last_words()));
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still listens.
    pub fn listens(&self) -> bool {
        match TcpStream::connect_timeout(&self.address, Duration::from_secs(1)) {
            Ok(stream) => {
                request(stream, TRY);
                true
            }
            Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        }
    }

    /// The processes of the command, where the system tells (Linux).
    fn processes(&self) -> Vec<PathBuf> {
        let mark = format!("{MARK}={}", self.mark);
        let is_ours = |folder: &PathBuf| {
            let environment = fs::read(folder.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(is_ours).collect()
    }

    /// How many files and connections it has open, where the system tells.
    pub fn descriptors(&self) -> Option<usize> {
        if !self.is_ours() {
            return None;
        }
        let counts: Vec<usize> = self
            .processes()
            .iter()
            .filter_map(|folder| fs::read_dir(folder.join("fd")).ok())
            .map(Iterator::count)
            .collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    /// What the command has printed last, or nothing.
    pub fn last_words(&self) -> String {
        let words = self.words.lock().map(|words| words.clone()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim().to_string();
        match words.lines().last() {
            Some(line) => {
                let clean = |c: char| match c.is_control() {
                    true => c.escape_debug().to_string(),
                    false => c.to_string(),
                };
                format!(": {}", line.chars().map(clean).collect::<String>())
            }
            None => String::new(),
        }
    }

    /// Stops the command, and says whether nothing of it is left.
    pub fn finish(&mut self) -> bool {
        self.stop();
        !self.is_ours() || TcpStream::connect_timeout(&self.address, TRY).is_err()
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take()); // Now the guard ends it.
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline && !matches!(child.try_wait(), Ok(Some(_))) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        let is_left = || {
            TcpStream::connect_timeout(&self.address, TRY).is_ok()
                || !self.processes().is_empty()
        };
        while Instant::now() < deadline && is_left() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.stop();
    }
}
