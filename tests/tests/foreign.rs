//! Servers that nobody here wrote: nothing false is said of them.
//!
//! `.ci/run` installs them: Debian's packages, and those of `tests/requirements.txt` in
//! `target/venv`.

use serde_json::Value;
use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Answers each request with a line of text.
const NODE: &str = "require('http').createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.end('Hello from node\\n');
}).listen(process.argv[1], '127.0.0.1')";
const WSGI: &str = "def app(environ, start):
    start('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '6')])
    return [b'Hello\\n']
";
const ASGI: &str = "async def app(scope, receive, send):
    if scope['type'] != 'http': return
    fields = [(b'content-type', b'text/plain'), (b'content-length', b'6')]
    await send({'type': 'http.response.start', 'status': 200, 'headers': fields})
    await send({'type': 'http.response.body', 'body': b'Hello\\n'})
";

fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(28_000);
    for _ in 0..4_000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

/// A folder with a page in it.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("index.html"), "<h1>Hello</h1>\n")?;
    Ok(folder)
}

/// What pip has installed.
fn python(program: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("target/venv/bin").join(program).display().to_string()
}

/// What the checker says, and whether that is so: `closest` is the step that it comes closest to,
/// and of `right` it says nothing.
fn judge(port: u16, command: &[&str], closest: &[&str], right: &[&str]) -> Result<Value> {
    let start = Instant::now();
    let address = format!("127.0.0.1:{port}");
    let output = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(["--json", &address, "--"])
        .args(command)
        .output()?;
    let time = start.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    let result: Value =
        serde_json::from_str(&said).map_err(|error| format!("{error}: {output:?}"))?;
    println!(
        "{}: {} {}, first {} ({time:.1?})",
        command[0], result["next"], result["conversations"], result["first"]
    );
    assert_eq!(output.status.code(), Some(1), "{result:#}");
    assert_eq!(result["step"], Value::Null, "{result:#}");
    assert!(
        closest.contains(&&result["next"].as_str().unwrap_or_default()[..2]),
        "{result:#}"
    );
    assert_eq!(result["everywhere"], Value::Array(Vec::new()), "{result:#}");
    let failures = result["failures"].as_array().ok_or("no failures")?;
    for failure in failures {
        let (session, what) = (&failure["session"], failure["what"].as_str());
        let is_late = what.is_some_and(|what| what.contains("does not end within"));
        assert!(!is_late, "a complete answer is not late: {failure:#}");
        let ends = what.is_some_and(|what| what.contains("ended"));
        assert!(!ends, "it has not ended: {failure:#}");
        assert!(!right.iter().any(|name| session == name), "{failure:#}");
    }
    assert!(time < Duration::from_secs(30), "{time:?}");
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "it is still there");
    Ok(result)
}

#[test]
#[ignore = "needs nginx: apt-get install nginx-light"]
fn nginx() -> Result {
    let (port, folder) = (free_port()?, folder("nginx")?);
    let (at, file) = (folder.display(), folder.join("nginx.conf"));
    let text = format!(
        "daemon off; user root; pid {at}/pid; error_log {at}/error.log; events {{}}
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {at}; }} }}"
    );
    fs::write(&file, text)?;
    let command = ["nginx", "-c", &file.to_string_lossy()];
    let right = ["nowhere", "no_host", "two_hosts", "large_post", "head_of_nowhere"];
    judge(port, &command, &["04"], &right)?;
    Ok(())
}

#[test]
#[ignore = "needs Apache: apt-get install apache2-bin"]
fn apache() -> Result {
    let (port, folder) = (free_port()?, folder("apache")?);
    let (at, file) = (folder.display(), folder.join("apache.conf"));
    let modules = "/usr/lib/apache2/modules";
    let text = format!(
        "ServerRoot {at}\nPidFile {at}/pid\nListen 127.0.0.1:{port}\nServerName localhost\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule dir_module {modules}/mod_dir.so\n\
         DocumentRoot {at}\nErrorLog {at}/error.log\n"
    );
    fs::write(&file, text)?;
    let _ = fs::remove_file(folder.join("pid"));
    // It goes on in the background.
    let command = ["apache2", "-f", &file.to_string_lossy()];
    judge(port, &command, &["04"], &["nowhere", "no_host", "head_of_nowhere"])?;
    Ok(())
}

#[test]
#[ignore = "needs lighttpd: apt-get install lighttpd"]
fn lighttpd() -> Result {
    let (port, folder) = (free_port()?, folder("lighttpd")?);
    let file = folder.join("lighttpd.conf");
    let text = format!(
        "server.document-root = \"{}\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"\n\
         index-file.names = (\"index.html\")\n",
        folder.display()
    );
    fs::write(&file, text)?;
    let command = ["lighttpd", "-D", "-f", &file.to_string_lossy()];
    let right = ["nowhere", "not_http", "version_2", "unknown_method"];
    judge(port, &command, &["04"], &right)?;
    Ok(())
}

#[test]
#[ignore = "needs busybox: apt-get install busybox"]
fn busybox() -> Result {
    let (port, folder) = (free_port()?, folder("busybox")?);
    let address = format!("127.0.0.1:{port}");
    let command =
        ["busybox", "httpd", "-f", "-p", &address, "-h", &folder.to_string_lossy()];
    judge(port, &command, &["03", "04", "05"], &["connect_and_leave", "reset"])?;
    Ok(())
}

#[test]
#[ignore = "needs node: apt-get install nodejs"]
fn node() -> Result {
    let port = free_port()?;
    let command = ["node", "-e", NODE, &port.to_string()];
    judge(port, &command, &["03"], &["hello", "two_requests", "stalled", "silent"])?;
    Ok(())
}

#[test]
#[ignore = "needs target/venv: pip install -r tests/requirements.txt"]
fn pythons_servers() -> Result {
    let folder = folder("python")?;
    fs::write(folder.join("wsgi.py"), WSGI)?;
    fs::write(folder.join("asgi.py"), ASGI)?;
    let at = folder.to_string_lossy().into_owned();
    let port = free_port()?;
    let (python3, text) = (python("python3"), port.to_string());
    let command = [
        &*python3,
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--directory",
        &at,
        &text,
    ];
    judge(port, &command, &["03", "04", "05"], &["connect_and_leave"])?;
    let (port, uvicorn) = (free_port()?, python("uvicorn"));
    let text = port.to_string();
    let command = [&*uvicorn, "--app-dir", &at, "--port", &text, "asgi:app"];
    judge(port, &command, &["03"], &["hello", "two_requests", "silent"])?;
    let (port, gunicorn) = (free_port()?, python("gunicorn"));
    let address = format!("127.0.0.1:{port}");
    let command = [&*gunicorn, "--chdir", &at, "--bind", &address, "wsgi:app"];
    judge(port, &command, &["03"], &["hello", "two_requests"])?;
    let (port, text) = (free_port()?, String::new());
    let run = format!(
        "{text}import sys; sys.path.insert(0, {at:?})
from wsgi import app
from werkzeug.serving import run_simple
run_simple('127.0.0.1', {port}, app, threaded=True)"
    );
    judge(port, &[&*python3, "-c", &run], &["03", "01", "02"], &["connect_and_leave"])?;
    Ok(())
}
