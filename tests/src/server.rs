//! Builds the steps, and runs one.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{env, fs, thread};

/// How long a server may take to listen, or to answer a good request.
const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// A step and its binary.
#[derive(Clone, Debug)]
pub struct Step {
    /// The name of its folder and its binary.
    pub name: String,
    /// Where its binary is.
    pub binary: PathBuf,
}

/// The names of the steps' folders, in order.
///
/// # Errors
/// When there is no such folder.
pub fn step_names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("steps")).context("there are no steps")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all steps, once, and returns them in order.
///
/// # Errors
/// When a step does not build.
pub fn build() -> Result<Vec<Step>> {
    let names = step_names(&root())?;
    let steps = build_targets("bin", "--bins")?;
    let built: Vec<_> = steps.iter().map(|step| &step.name).collect();
    ensure!(built == names.iter().collect::<Vec<_>>(), "built {built:?}, not {names:?}");
    Ok(steps)
}

/// Builds all stages, once, and returns them in order.
///
/// # Errors
/// When a stage does not build.
pub fn build_stages() -> Result<Vec<Step>> {
    build_targets("example", "--examples")
}

/// Builds the steps' targets of a kind.
fn build_targets(kind: &str, option: &str) -> Result<Vec<Step>> {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args([
        "build",
        option,
        "--message-format=json-render-diagnostics",
    ]);
    for name in step_names(&root())? {
        command.args(["--package", &format!("step-{name}")]);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build failed");
    let mut steps = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        if let (true, Some(name), Some(binary)) = (
            message["target"]["kind"][0] == kind,
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            steps.push(Step { name: name.to_string(), binary: binary.into() });
        }
    }
    steps.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(steps)
}

/// A server that runs, and stops when this is dropped, or when this process ends in any way.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its shell, which waits for its standard input to end, and then ends the server.
    shell: Child,
    log: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
    /// Its process id.
    pub pid: u32,
}

impl Server {
    /// Starts a step on a free port of this machine, after a shell's commands such as
    /// `ulimit -n 20;`, and waits until it listens.
    ///
    /// # Errors
    /// When it does not say that it listens.
    pub fn start(step: &Step, limits: &str) -> Result<Server> {
        let outer =
            "sh -c \"$0\" \"$1\" 2>&1 & server=$!; cat >/dev/null; kill $server; wait";
        let inner = format!("echo $$; {limits} exec \"$0\" 127.0.0.1:0");
        let mut command = Command::new("sh");
        // Ctrl-C is for the tests alone: the pipe's end tells the shell.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut shell = command
            .args(["-c", outer, &inner])
            .arg(&step.binary)
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run sh")?;
        let mut output = BufReader::new(shell.stdout.take().context("no output")?);
        let (sender, receiver) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let mut head = [String::new(), String::new()];
            for line in &mut head {
                let _ = output.read_line(line);
            }
            let _ = sender.send(head);
            let mut buffer = [0; 65536];
            while let Ok(size @ 1..) = output.read(&mut buffer) {
                if let Ok(mut log) = shared.lock() {
                    log.extend_from_slice(&buffer[..size]);
                }
            }
        });
        let [pid, listening] = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let address = listening.trim_end().strip_prefix("Listening on http://");
        let address = address.and_then(|address| address.parse().ok());
        let server = address.zip(pid.trim_end().parse().ok());
        let Some((address, pid)) = server else {
            drop(shell.stdin.take());
            let _ = shell.wait();
            anyhow::bail!("{} does not listen: {pid}{listening}", step.name);
        };
        Ok(Server { address, shell, log, reader: Some(reader), pid })
    }

    /// What the server has logged since it listens.
    pub fn log(&self) -> Vec<u8> {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// Ends the server, and returns all that it has logged.
    pub fn end(self) -> Vec<u8> {
        let log = Arc::clone(&self.log);
        drop(self); // Waits until the log has been read to its end.
        log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// Checks that the server has survived: that it answers a good request, and that its log
    /// has neither a panic nor a raw byte from a client. Ends it.
    ///
    /// # Errors
    /// Says what is wrong, with the log.
    pub fn check(self) -> Result<()> {
        let answer = self.get().unwrap_or_else(|error| error.to_string());
        let log = self.end();
        let text = String::from_utf8_lossy(&log).into_owned();
        let is_raw = |c: char| c.is_control() && c != '\n';
        let is_clean = std::str::from_utf8(&log).is_ok() && !text.contains(is_raw);
        ensure!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "afterwards: {answer:?}\n{text}"
        );
        ensure!(is_clean && !text.contains("panicked"), "in the log: {text:?}");
        Ok(())
    }

    /// The answer to a good request.
    ///
    /// # Errors
    /// When the connection breaks, or takes too long.
    pub fn get(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /headers HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
