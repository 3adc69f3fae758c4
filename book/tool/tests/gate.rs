//! What the book must not get away with. Each test breaks a copy of it.

use mdbook_driver::MDBook;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The tool.
const BOOK: &str = env!("CARGO_BIN_EXE_book");

/// A copy of all that the book is made from.
struct Copy(TempDir);

impl Copy {
    fn new() -> Result<Copy> {
        let copy = Copy(tempfile::tempdir()?);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in [
            "book/src",
            "book/theme",
            "steps",
            "tests/sessions",
            "tests/exercises",
            "tests/src",
            "tests/examples",
        ] {
            copy_folder(&root.join(folder), &copy.path(folder))?;
        }
        for file in ["book/book.toml", "tests/stages.txt", "tests/how-far.yml"] {
            fs::copy(root.join(file), copy.path(file))?;
        }
        Ok(copy)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn read(&self, path: &str) -> Result<String> {
        Ok(fs::read_to_string(self.path(path))?)
    }

    /// Replaces a text that must be there, everywhere.
    fn replace(&self, path: &str, old: &str, new: &str) -> Result {
        let text = self.read(path)?;
        assert!(text.contains(old), "there is no {old:?} in {path}");
        Ok(fs::write(self.path(path), text.replace(old, new))?)
    }

    fn book(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BOOK);
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Expects `cargo book check` to fail, and to say all of this.
    fn expect_refusal(&self, expected: &[&str]) -> Result {
        let output = self.book(&["check"]).output()?;
        let message = message(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for text in expected {
            assert!(message.contains(text), "expected {text:?} in:\n{message}");
        }
        let is_clean = !message.contains("panicked") && !message.contains("backtrace");
        assert!(is_clean, "{message}");
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_book_shows_all_changed_lines() -> Result {
    let output = Copy::new()?.book(&["check"]).output()?;
    let message = message(&output);
    assert!(output.status.success(), "{message}");
    let (shown, rest) = message.split_once(" of ").ok_or("no count")?;
    let (all, _) = rest.split_once(" changed lines shown").ok_or("no count")?;
    assert!(shown == all && all.parse::<usize>()? > 300, "{message}");
    Ok(())
}

#[test]
fn a_missing_diff_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("book/src/03-headers.md", "{{#diff Request::values}}", "")?;
    copy.expect_refusal(&[
        "steps/03-headers/src/main.rs:114: \"Request::values\" has changed lines",
        "no {{#diff}} of book/src/03-headers.md shows it before {{#run 03-headers}}",
    ])
}

#[test]
fn a_stage_that_is_not_run_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("book/src/04-status-codes.md", "{{#run 04b-lingering}}", "")?;
    copy.expect_refusal(&[
        "{{#run 04c-refusals}}: expected 04b-lingering, which comes next",
    ])?;
    let copy = Copy::new()?;
    copy.replace(
        "book/src/02-parse-request-line.md",
        "{{#run 02-parse-request-line}}",
        "",
    )?;
    copy.expect_refusal(&[
        "book/src/02-parse-request-line.md: there is no {{#run 02-parse-request-line}}",
    ])
}

#[test]
fn a_changed_line_of_a_stage_is_shown_before_it_runs() -> Result {
    let copy = Copy::new()?;
    let stage = "steps/04-status-codes/examples/04d-rules.rs";
    copy.replace(
        stage,
        "/// Whether content follows the head",
        "/// Whether content follows",
    )?;
    copy.expect_refusal(&[
        stage,
        "\"Request::has_content\" has changed lines",
        "shows it before {{#run 04d-rules}}",
    ])
}

#[test]
fn an_answer_that_was_shown_is_not_asked_for() -> Result {
    let copy = Copy::new()?;
    let chapter = "book/src/04-status-codes.md";
    copy.replace(
        chapter,
        "\n## Exercises",
        "\n{{#predict nowhere: It is gone.}}\n\n## Exercises",
    )?;
    copy.expect_refusal(&[chapter, "the chapter has shown its answer already"])
}

#[test]
fn a_changed_line_that_no_diff_shows_is_refused() -> Result {
    let copy = Copy::new()?;
    let main = "steps/05-thread-per-connection/src/main.rs";
    copy.replace(main, "\"more than one Host field\"", "\"two Host fields\"")?;
    copy.expect_refusal(&[
        main,
        "\"Request::check\" has changed lines",
        "two Host fields",
    ])
}

#[test]
fn a_renamed_function_is_refused() -> Result {
    let copy = Copy::new()?;
    for step in fs::read_dir(copy.path("steps"))? {
        for folder in ["src", "examples"] {
            for file in fs::read_dir(
                step.as_ref().map_err(ToString::to_string)?.path().join(folder),
            )? {
                let file = file?.path();
                let text = fs::read_to_string(&file)?.replace("fn describe(", "fn tell(");
                fs::write(file, text)?;
            }
        }
    }
    copy.expect_refusal(&[
        "book/src/03-headers.md:",
        "{{#diff describe}}: 03-headers has no \"describe\", only Cargo.toml, //!, use",
    ])
}

#[test]
fn an_unchanged_line_shown_as_changed_is_refused() -> Result {
    let copy = Copy::new()?;
    // Under another name, all of a function would be new.
    let main = "steps/05-thread-per-connection/src/main.rs";
    copy.replace(main, "fn describe(", "fn tell(")?;
    copy.expect_refusal(&[
        main,
        "differs from steps/04-status-codes/src/main.rs",
        "item by item",
    ])
}

#[test]
fn a_broken_link_is_refused() -> Result {
    let copy = Copy::new()?;
    let chapter = "book/src/02-parse-request-line.md";
    copy.replace(chapter, "glossary.md#token", "glossary.md#tokken")?;
    copy.replace(chapter, "tests/src/session.rs", "tests/src/sessions.rs")?;
    copy.replace(chapter, "(03-headers.md)", "(03-heads.md)")?;
    copy.expect_refusal(&[
        "02-parse-request-line.html: the link glossary.html#tokken leads nowhere",
        "02-parse-request-line.html: the link ../../tests/src/sessions.rs leads nowhere",
        "03-heads",
    ])
}

#[test]
fn what_nobody_sees_does_not_count() -> Result {
    let copy = Copy::new()?;
    let chapter = "book/src/03-headers.md";
    copy.replace(chapter, "{{#diff describe}}", "<!-- {{#diff describe}} -->")?;
    copy.replace(chapter, "{{#session two_hosts}}", "<!--\n{{#session two_hosts}} -->")?;
    copy.replace("book/src/04-status-codes.md", "two_hosts, ", "")?;
    let expected =
        ["\"describe\" has changed lines", "two_hosts.session is in no chapter"];
    copy.expect_refusal(&expected)
}

#[test]
fn braces_and_wrong_links_are_found_on_the_pages() -> Result {
    let copy = Copy::new()?;
    copy.replace("book/src/SUMMARY.md", "[Glossary]", "[Glossary {{x}}]")?;
    let (after, text) = ("book/src/after.md", copy.read("book/src/after.md")?);
    let links = "<a href=\"nowhere.html\" id=\"here\">x</a> <a id=\"there\" href=\"after.html\">x</a>";
    fs::write(copy.path(after), format!("{text}\n{links} [x](#there)\n"))?;
    copy.expect_refusal(&["glossary.html: a {{ is left", "the link nowhere.html leads"])?;
    let output = copy.book(&["check"]).output()?;
    assert!(!message(&output).contains("#there"));
    Ok(())
}

#[test]
fn a_line_at_the_end_of_a_file_is_one_changed_line() -> Result {
    let copy = Copy::new()?;
    let manifest = "steps/05-thread-per-connection/Cargo.toml";
    fs::write(copy.path(manifest), copy.read(manifest)? + "# a comment\n")?;
    let output = copy.book(&["check"]).output()?;
    assert!(output.status.success(), "{}", message(&output));
    Ok(())
}

#[test]
fn a_session_that_no_chapter_shows_is_refused() -> Result {
    let copy = Copy::new()?;
    let text = copy.read("tests/sessions/hello.session")?;
    fs::write(copy.path("tests/sessions/hello_again.session"), text)?;
    copy.replace("book/src/04-status-codes.md", "{{#exercise time}}", "")?;
    copy.expect_refusal(&[
        "tests/sessions/hello_again.session is in no chapter",
        "tests/exercises/time.session is in no chapter",
    ])
}

#[test]
fn a_directive_that_is_wrong_is_refused_with_its_line() -> Result {
    let copy = Copy::new()?;
    let chapter = "book/src/01-raw-socket.md";
    let text = copy.read(chapter)?;
    let wrong = "{{#session hallo}} {{#session 09: hello}} {{#value SIZE}} {{#dif main}} {{oops}}";
    let lines = text.lines().count();
    fs::write(copy.path(chapter), format!("{wrong}\n{text}{{{{#see nosuch}}}}\n"))?;
    copy.expect_refusal(&[
        &format!("book/src/01-raw-socket.md:{}: {{{{#see nosuch}}}}: there is no", lines + 2),
        "book/src/01-raw-socket.md:1: {{#session hallo}}: there is no session \"hallo\", only ",
        "{{#session 09: hello}}: there is no step 09, only 01, 02, 03, 04, 05",
        "{{#value SIZE}}: 01-raw-socket has no constant SIZE, only RETRY_TIME, READ_SIZE",
        "{{#dif main}}: expected one of diff, run, session",
        "book/src/01-raw-socket.md:1: what is this {{ for?",
    ])
}

#[test]
fn a_picture_of_what_nobody_said_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("tests/sessions/headers.session", "curious", "merry")?;
    copy.expect_refusal(&[
        "book/src/03-headers.md:",
        "\"X-Mood:   curious\" is sent in no session, but in this picture",
        "\"X-Mood: curious\" is received in no session",
    ])
}

#[test]
fn a_lesson_that_is_too_long_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("book/src/class.md", "{{#plan of 90:", "{{#plan of 40:")?;
    copy.replace("book/src/03-headers.md", "\"The idea\" =", "\"The ideas\" =")?;
    copy.replace("book/src/class.md", "03 The idea;", "03 The ideas;")?;
    copy.expect_refusal(&[
        "book/src/class.md:",
        " minutes, not 40",
        "book/src/03-headers.md: there is no heading \"The ideas\"",
    ])
}

#[test]
fn code_and_transcripts_by_hand_are_refused() -> Result {
    let copy = Copy::new()?;
    let chapter = "book/src/after.md";
    let text = copy.read(chapter)?;
    fs::write(
        copy.path(chapter),
        format!(
            "```rust\nfn main() {{}}\n```\n\n- In a list:\n\n  ```text\n  > GET /\n  ```\n\n\
         ~~~rust\nfn main() {{}}\n~~~\n{text}"
        ),
    )?;
    copy.expect_refusal(&[
        "book/src/after.md:1: only commands (```sh) are written by hand",
        "book/src/after.md:7: only commands",
        "book/src/after.md:11: only commands",
    ])
}

#[test]
fn a_step_that_is_not_rust_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("steps/03-headers/src/main.rs", "fn head(", "fn head((")?;
    copy.expect_refusal(&["steps/03-headers/src/main.rs:"])
}

#[test]
fn a_session_that_is_none_is_refused() -> Result {
    let copy = Copy::new()?;
    copy.replace("tests/sessions/hello.session", "@ 02-parse", "@ 2-parse")?;
    copy.expect_refusal(&[
        "hello.session:15: \"@ 2-parse-request-line\": expected a step",
    ])
}

#[test]
fn the_old_book_stays_when_the_new_one_does_not_build() -> Result {
    let copy = Copy::new()?;
    assert!(copy.book(&["build"]).output()?.status.success());
    let old = copy.read("target/book/03-headers.html")?;
    copy.replace("book/src/03-headers.md", "{{#diff describe}}", "{{#diff nosuch}}")?;
    assert_eq!(copy.book(&["build"]).output()?.status.code(), Some(1));
    assert_eq!(copy.read("target/book/03-headers.html")?, old);
    Ok(())
}

#[test]
fn a_plain_mdbook_build_gives_the_same_book() -> Result {
    let copy = Copy::new()?;
    assert!(copy.book(&["build"]).output()?.status.success());
    let built = copy.path("target/book");
    fs::rename(&built, copy.path("target/ours"))?;
    // As mdBook does it, with the preprocessor as a command of its own.
    let mut plain = MDBook::load(copy.path("book"))?;
    plain.config.set("preprocessor.steps.command", format!("{BOOK} preprocess"))?;
    MDBook::load_with_config(copy.path("book"), plain.config)?.build()?;
    let mut count = 0;
    for entry in fs::read_dir(&built)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".html") {
            let [plain, ours] = ["book", "ours"].map(|of| format!("target/{of}/{name}"));
            assert!(copy.read(&plain)? == copy.read(&ours)?, "{name} differs");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} pages");
    Ok(())
}

#[test]
fn a_port_in_use_is_said_to_be() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let output = Copy::new()?.book(&["--port", &port.to_string()]).output()?;
    let message = message(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains(&format!("cannot listen on 127.0.0.1:{port}: ")),
        "{message}"
    );
    assert!(message.contains("Try cargo book --port 0"), "{message}");
    Ok(())
}

/// `cargo book`, until it is dropped.
struct Served {
    child: Child,
    address: String,
    errors: mpsc::Receiver<String>,
}

impl Served {
    fn new(copy: &Copy) -> Result<Served> {
        let mut command = copy.book(&["--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, errors) = mpsc::channel();
        let stderr = BufReader::new(stderr.ok_or("no errors")?);
        thread::spawn(move || {
            for line in stderr.lines().map_while(std::result::Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("The book is at http://");
        let address = address.ok_or_else(|| format!("it says {line:?}"))?.to_string();
        Ok(Served { child, address, errors })
    }

    /// Waits until it says this.
    fn wait_for(&self, text: &str) {
        assert!(self.errors.iter().any(|line| line.contains(text)), "it has ended");
    }

    /// Waits for builds until the cover shows this.
    fn wait_for_cover(&self, text: &str) -> Result {
        while !self.get("/cover.html")?.contains(text) {
            self.wait_for("changed lines shown");
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_is_served_and_built_again_at_each_change() -> Result {
    let copy = Copy::new()?;
    let served = Served::new(&copy)?;
    assert!(served.get("/")?.contains("livereload"));
    assert!(served.get("/steps/01-raw-socket/src/main.rs")?.contains("pub fn exchange"));
    assert!(served.get("/nowhere.html")?.contains("Document not found"));
    for path in ["/nowhere.html", "/../Cargo.toml", "/steps/../book/book.toml"] {
        assert!(served.get(path)?.starts_with("HTTP/1.1 404"), "{path}");
    }

    copy.replace("book/src/cover.md", "# From Socket to Server", "# A new title")?;
    served.wait_for_cover("A new title</a></h1>")?;

    // As an editor does that writes a new file and gives it the old one's name.
    for title in ["Second edition", "Third edition"] {
        let text = copy.read("book/book.toml")?;
        let new = text.replacen("title = \"", &format!("title = \"{title} "), 1);
        fs::write(copy.path("book/new.toml"), new)?;
        fs::rename(copy.path("book/new.toml"), copy.path("book/book.toml"))?;
        served.wait_for_cover(title)?;
    }

    copy.replace("book/src/cover.md", "# A new title", "# Newer {{#size 99}}")?;
    served.wait_for("The book stays as it was.");
    assert!(served.get("/cover.html")?.contains("A new title</a></h1>"));
    Ok(())
}
