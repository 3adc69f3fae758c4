//! A server that is not ours: it is started and stopped, or runs already.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one attempt to connect may take.
const TRY: Duration = Duration::from_millis(500);
/// How much of what it prints is kept, in bytes: its last words.
const LAST_WORDS: usize = 2000;

/// A server to be checked.
pub struct Subject {
    /// Where it listens.
    pub address: SocketAddr,
    command: Vec<OsString>,
    child: Option<Child>,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Subject {
    /// A server that runs already.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn running(address: SocketAddr) -> Result<Subject> {
        TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("Nothing listens on {address}"))?;
        let (command, child, words) = Default::default();
        Ok(Subject { address, command, child, words })
    }

    /// Starts a command, and waits until it listens on the address.
    ///
    /// # Errors
    /// When something else listens there, when it cannot be started, ends, or does not listen.
    pub fn start(address: SocketAddr, command: &[OsString]) -> Result<Subject> {
        if TcpStream::connect_timeout(&address, TRY).is_ok() {
            bail!(
                "Something listens on {address} already: end it, or name another address"
            );
        }
        let (child, words) = Default::default();
        let mut subject = Subject { address, command: command.to_vec(), child, words };
        subject.restart()?;
        Ok(subject)
    }

    /// Starts the command again.
    ///
    /// # Errors
    /// As `start`.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let name = self.command.join(OsString::from(" ").as_os_str());
        let name = name.to_string_lossy().into_owned();
        // The server in front, and behind it a guard, who ends all of it when this process is
        // gone, in whatever way.
        let guarded = "exec 3<&0; \
            { cat <&3 >/dev/null; trap '' TERM; kill 0; sleep 1; kill -9 0; } >/dev/null 2>&1 & \
            exec 3<&-; \"$@\" </dev/null";
        let mut shell = Command::new("sh");
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut child = shell
            .args(["-c", guarded, "sh"])
            .args(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run sh")?;
        self.words = Arc::default();
        let outputs = [
            child.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
            child.stderr.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
        ];
        for mut output in outputs.into_iter().flatten() {
            let words = Arc::clone(&self.words);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(size @ 1..) = output.read(&mut buffer) {
                    if let Ok(mut words) = words.lock() {
                        words.extend_from_slice(&buffer[..size]);
                        let excess = words.len().saturating_sub(LAST_WORDS);
                        words.drain(..excess);
                    }
                }
            });
        }
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.ended(Duration::ZERO) {
                let why = match code {
                    127 => "there is no such command".to_string(),
                    126 => "it cannot be executed".to_string(),
                    code => format!("it ended with exit code {code}"),
                };
                bail!(
                    "{name} does not listen on {}: {why}{}",
                    self.address,
                    self.last_words()
                );
            }
            if TcpStream::connect_timeout(&self.address, TRY).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let words = self.last_words();
                self.stop();
                bail!(
                    "{name} does not listen on {} within {PATIENCE:?}{words}. If it listens \
                     elsewhere, say where: cargo how-far ADDRESS -- {name}",
                    self.address
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it can be started again.
    pub fn is_ours(&self) -> bool {
        !self.command.is_empty()
    }

    /// The exit code of the command, if it ends within a time. One that is not ours tells none.
    pub fn ended(&mut self, time: Duration) -> Option<i32> {
        let deadline = Instant::now() + time;
        let Some(child) = self.child.as_mut() else {
            thread::sleep(time);
            return None;
        };
        loop {
            if let Some(status) = child.try_wait().ok()? {
                return Some(status.code().unwrap_or(-1));
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still listens.
    pub fn listens(&self) -> bool {
        match TcpStream::connect_timeout(&self.address, Duration::from_secs(1)) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        }
    }

    /// What the command has printed last, or nothing.
    pub fn last_words(&self) -> String {
        let words = self.words.lock().map(|words| words.clone()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim().to_string();
        match words.lines().last() {
            Some(line) => format!(": {}", line.escape_debug()),
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
            thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        while Instant::now() < deadline
            && TcpStream::connect_timeout(&self.address, TRY).is_ok()
        {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.stop();
    }
}
