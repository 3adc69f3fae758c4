//! Serves the book on this machine, and builds it again when something has changed.

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use std::fs;
use std::io::{BufRead, BufReader, Read, Result as IoResult, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// An editor writes a file in several steps: how long to wait for the last of them.
const SETTLE: Duration = Duration::from_millis(50);

/// How often the book has been built, and a bell for when it has been again.
type Builds = Arc<(Mutex<usize>, Condvar)>;

/// Serves the book until Ctrl-C.
///
/// # Errors
/// When the book does not build at the start, or the port is not to be had.
pub fn serve(root: &Path, port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on 127.0.0.1:{port}: {error}. Try cargo book --port 0"
        )
    })?;
    let folder = crate::build(root)?;
    let (sender, changes) = mpsc::channel();
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.send(());
            }
        })?;
    for name in [
        "book/src",
        "book/theme",
        "book/book.toml",
        "steps",
        "tests/sessions",
        "tests/exercises",
    ] {
        watcher
            .watch(&root.join(name), RecursiveMode::Recursive)
            .with_context(|| format!("cannot watch {name}"))?;
    }
    println!("The book is at http://{}", listener.local_addr()?);
    let builds = Builds::default();
    let (shared, book, repository) = (Arc::clone(&builds), folder, root.to_path_buf());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (builds, book, root) =
                (Arc::clone(&shared), book.clone(), repository.clone());
            // A browser that leaves early is no error.
            thread::spawn(move || answer(&stream, &builds, &book, &root).ok());
        }
    });
    while changes.recv().is_ok() {
        while changes.recv_timeout(SETTLE).is_ok() {}
        match crate::build(root) {
            Ok(_) => {
                if let Ok(mut count) = builds.0.lock() {
                    *count += 1;
                }
                builds.1.notify_all();
            }
            Err(error) => eprintln!("{error:#}\nThe book stays as it was."),
        }
    }
    Ok(())
}

/// Answers a request for a page of the book, a file of the repository that the book links to,
/// or for word of the next build; then the connection is closed, as in the book.
fn answer(
    mut stream: &TcpStream,
    builds: &Builds,
    book: &Path,
    root: &Path,
) -> IoResult<()> {
    let mut head = BufReader::new(stream).take(65536).lines();
    let line = head.next().transpose()?.unwrap_or_default();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.trim_start_matches('/');
    if path == "build-after" {
        if let (Ok(count), Ok(seen)) = (builds.0.lock(), query.parse::<usize>()) {
            drop(builds.1.wait_while(count, |count| *count == seen));
        }
        return stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
    let path = if path.is_empty() { "index.html" } else { path };
    // The book's links into the repository go to these two folders.
    let (folder, path) = match path.split_once('/') {
        Some((name @ ("steps" | "tests"), rest)) => (root.join(name), rest),
        _ => (book.to_path_buf(), path),
    };
    let seen = builds.0.lock().map_or(0, |count| *count);
    let (status, mut bytes, file) = match read(&folder, path) {
        Some((bytes, file)) => ("200 OK", bytes, file),
        None => ("404 Not Found", b"404 Not Found\n".to_vec(), PathBuf::new()),
    };
    let content_type = match file.extension().unwrap_or_default().to_str() {
        Some("html") => {
            let wait = format!("fetch('/build-after?{seen}')");
            let script = format!("<script>{wait}.then(() => location.reload())</script>");
            bytes.extend_from_slice(script.as_bytes());
            "text/html; charset=utf-8"
        }
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "text/plain; charset=utf-8",
    };
    let length = bytes.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&bytes)
}

/// Reads a file, when it is in the folder.
fn read(folder: &Path, path: &str) -> Option<(Vec<u8>, PathBuf)> {
    let file = folder.join(path).canonicalize().ok()?;
    file.starts_with(folder.canonicalize().ok()?)
        .then(|| fs::read(&file).ok())?
        .map(|b| (b, file))
}
