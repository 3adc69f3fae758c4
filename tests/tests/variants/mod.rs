//! Servers that are like a step but for a few lines.

#![allow(dead_code)] // Each test needs a part of it.

mod faults;

#[allow(unused_imports)]
pub use faults::{FAULTS, Fault};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
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

/// Builds servers from changed sources of steps, each with one call of the compiler, against the
/// crates that the steps have been built with.
pub fn build_all(
    sources: &[(String, String)],
) -> Result<Vec<PathBuf>, Box<dyn Error + Send + Sync>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    fs::create_dir_all(&folder)?;
    let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(&root)
        .args(["build", "--quiet", "--message-format=json", "--package"])
        .arg("step-05-thread-per-connection")
        .output()?;
    let mut crates = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let files = message["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(serde_json::Value::as_str);
        if ["anyhow", "colored"].contains(&name)
            && let Some(file) = files.find(|file| file.ends_with(".rlib"))
        {
            crates.push((name.to_string(), PathBuf::from(file)));
        }
    }
    let compile = |name: &str, source: &str| -> Result<PathBuf, String> {
        let (file, binary) = (folder.join(format!("{name}.rs")), folder.join(name));
        let same = fs::read_to_string(&file).is_ok_and(|known| known == source);
        let mut command = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
        command.args([
            "--edition",
            "2024",
            "--cap-lints",
            "allow",
            "--crate-name",
            "variant",
        ]);
        for (name, file) in &crates {
            command.arg("--extern").arg(format!("{name}={}", file.display()));
            let others = file.parent().unwrap_or(file).display();
            command.args(["-L", &format!("dependency={others}")]);
        }
        // What is there already is still right, if nothing has changed since.
        let is_new = |path: &Path, than: &Path| {
            let time =
                |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
            time(path) > time(than)
        };
        if same
            && crates.iter().all(|(_, file)| is_new(&binary, file))
            && is_new(&binary, &file)
        {
            return Ok(binary);
        }
        fs::write(&file, source).map_err(|error| error.to_string())?;
        let output = command.arg("-o").arg(&binary).arg(&file).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(binary),
            false => Err(format!("{name}:\n{}", String::from_utf8_lossy(&output.stderr))),
        }
    };
    let todo = Mutex::new(sources.iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((at, (name, source))) =
                    todo.lock().ok().and_then(|mut todo| todo.next())
                {
                    let built = compile(name, source);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, built));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().map_err(|error| error.to_string())?;
    done.sort_by_key(|(at, _)| *at);
    let mut binaries = Vec::new();
    let mut errors = Vec::new();
    for (_, built) in done {
        match built {
            Ok(binary) => binaries.push(binary),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(binaries) } else { Err(errors.join("\n").into()) }
}
