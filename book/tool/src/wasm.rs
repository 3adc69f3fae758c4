//! The steps' own code, compiled to WebAssembly for the telnet in the pages.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

/// What the page's script knows of the module until it is there.
const NONE: &str = "const MODULE = '';";

/// Adds the steps to a rendered book, as a script: a page that is a file may load nothing else.
/// Where they cannot be compiled, the pages have no telnet, and a line says so.
///
/// # Errors
/// When the book cannot be written.
pub fn add(root: &Path, book: &Path) -> Result<()> {
    let Some(module) = compile(root) else { return Ok(()) };
    let mut hasher = DefaultHasher::new();
    module.hash(&mut hasher);
    let text = format!("self.steps = '{}';\n", BASE64_STANDARD.encode(module));
    fs::write(book.join("theme/steps.wasm.js"), text)?;
    let script = book.join("theme/try.js");
    let text = fs::read_to_string(&script).context("there is no theme/try.js")?;
    // Another module has another address, so that no browser keeps the old one.
    let name = format!("const MODULE = 'steps.wasm.js?{:x}';", hasher.finish());
    Ok(fs::write(script, text.replace(NONE, &name))?)
}

/// The module as it is now, never an older one.
fn compile(root: &Path) -> Option<Vec<u8>> {
    let module = root.join("target/wasm32-unknown-unknown/page/try.wasm");
    let sources = ["steps", "book/try", "Cargo.toml", "Cargo.lock", "scripts/wasm.sh"];
    let newest = sources.iter().filter_map(|source| newest(&root.join(source))).max();
    if changed(&module) <= newest {
        let script = root.join("scripts/wasm.sh");
        if !script.exists() {
            return None; // A book without its repository.
        }
        let output = Command::new("bash").arg(script).output().ok()?;
        if !output.status.success() {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
    }
    fs::read(module).ok()
}

/// When a file has changed.
fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// When a file, or the newest file of a folder, has changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| newest(&file.path())).chain(changed(path)).max()
}
