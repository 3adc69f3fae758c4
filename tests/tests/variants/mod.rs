//! Servers that are like a step but for a few lines.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Builds a server from the source of a step that has been changed. Returns its binary, and what
/// the compiler has said.
pub fn build(name: &str, source: &str) -> Result<(PathBuf, String), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("variants");
    let crate_folder = target.join("crates").join(name);
    fs::create_dir_all(crate_folder.join("src"))?;
    fs::write(crate_folder.join("src/main.rs"), source)?;
    fs::copy(root.join("Cargo.lock"), crate_folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let lines_of = |section: &str| -> String {
        let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
        lines
            .take_while(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let (package, lints, dependencies) = (
        lines_of("[workspace.package]"),
        lines_of("[workspace.lints.rust]"),
        lines_of("[workspace.dependencies]"),
    );
    let manifest = format!(
        "[package]\nname = \"{name}\"\n{package}\n[dependencies]\n{dependencies}\n\
         [lints.rust]\n{lints}\n[workspace]\n"
    );
    fs::write(crate_folder.join("Cargo.toml"), manifest)?;
    let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(&crate_folder)
        .args(["build", "--offline", "--quiet", "--target-dir"])
        .arg(&target)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{name} does not compile:\n{said}").into());
    }
    Ok((target.join("debug").join(name), said))
}
