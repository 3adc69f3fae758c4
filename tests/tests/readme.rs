//! The README says what is so.

use replayer::server::{root, step_names};
use replayer::session::{Session, render};
use std::error::Error;
use std::fs;
use std::process::Command;

type Result = std::result::Result<(), Box<dyn Error>>;

#[test]
fn its_transcripts_are_sessions() -> Result {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let mut count = 0;
    for block in readme.split("```session ").skip(1) {
        let (names, rest) = block.split_once('\n').ok_or("no names")?;
        let (shown, _) = rest.split_once("```").ok_or("no end")?;
        let (name, step) = names.split_once(' ').ok_or("no step")?;
        let path = root().join(format!("tests/sessions/{name}.session"));
        let session = Session::read(&path, &step_names(&root())?)?;
        let wanted = render(&session.lines(step));
        if shown != wanted {
            return Err(format!("README.md, {names}, should be:\n{wanted}").into());
        }
        count += 1;
    }
    assert!(count > 0, "no transcripts");
    Ok(())
}

#[test]
fn its_table_gives_the_sizes() -> Result {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let mut last: Option<String> = None;
    for step in step_names(&root())? {
        let file = format!("steps/{step}/src/main.rs");
        let size = fs::read_to_string(root().join(&file))?.lines().count();
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| [`{step}`]({file})")));
        let mut end = format!(" | {size} | |");
        if let Some(last) = &last {
            let mut git = Command::new("git");
            git.current_dir(root()).args([
                "diff",
                "--no-index",
                "--numstat",
                last,
                &file,
            ]);
            let output = String::from_utf8(git.output()?.stdout)?;
            let mut numbers = output.split_whitespace();
            let (added, removed) = (numbers.next(), numbers.next());
            let [added, removed] = [added, removed].map(Option::unwrap_or_default);
            end = format!(" | {size} | +{added} −{removed} |");
        }
        let row = row.ok_or(format!("no row for {step}"))?;
        assert!(row.ends_with(&end), "{row}\nshould end in {end}");
        last = Some(file);
    }
    Ok(())
}
