//! Serves the book on this machine, and builds it again when something has changed.

use anyhow::{Context, Result, anyhow};
use axum::Router;
use axum::http::{HeaderValue, header};
use notify::{RecursiveMode, Watcher};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tower_http::services::{ServeDir, ServeFile};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_livereload::LiveReloadLayer;

/// An editor writes a file in several steps: how long to wait for the last of them.
const SETTLE: Duration = Duration::from_millis(50);

/// Serves the book until Ctrl-C.
///
/// # Errors
/// When the book does not build at the start, or the port is not to be had.
pub fn serve(root: &Path, port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
        anyhow!("cannot listen on 127.0.0.1:{port}: {error}. Try cargo book --port 0")
    })?;
    listener.set_nonblocking(true)?;
    let book = crate::build(root)?;
    let reload = LiveReloadLayer::new();
    let reloader = reload.reloader();
    let (sender, changes) = mpsc::channel();
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.send(());
            }
        })?;
    let folders =
        ["book/src", "book/theme", "steps", "tests/sessions", "tests/exercises"];
    let folders = folders.map(|name| (name, RecursiveMode::Recursive));
    // An editor may put a new book.toml in the place of the old one: it is the folder that stays.
    for (name, mode) in folders.into_iter().chain([("book", RecursiveMode::NonRecursive)])
    {
        watcher
            .watch(&root.join(name), mode)
            .with_context(|| format!("cannot watch {name}"))?;
    }
    println!("The book is at http://{}", listener.local_addr()?);

    let header = |name, value| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    // The book's links into the repository go to these two folders.
    let repository =
        ["steps", "tests"].into_iter().fold(Router::new(), |router, name| {
            router.nest_service(&format!("/{name}"), ServeDir::new(root.join(name)))
        });
    let missing = ServeFile::new(book.join("404.html"));
    let app = repository
        .layer(header(header::CONTENT_TYPE, "text/plain; charset=utf-8"))
        .fallback_service(ServeDir::new(book).not_found_service(missing))
        .layer(reload)
        .layer(header(header::CACHE_CONTROL, "no-store"));

    let root = root.to_path_buf();
    thread::spawn(move || {
        let _watcher = watcher; // It watches as long as it lives.
        while changes.recv().is_ok() {
            while changes.recv_timeout(SETTLE).is_ok() {}
            match crate::build(&root) {
                Ok(_) => reloader.reload(),
                Err(error) => eprintln!("{error:#}\nThe book stays as it was."),
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(axum::serve(listener, app).await?)
    })
}
