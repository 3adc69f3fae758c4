//! Builds the book, checks it, and serves it while it is written.

mod check;
mod directives;
mod highlight;
mod page;
mod serve;
mod steps;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use directives::Directives;
use mdbook_driver::MDBook;
use mdbook_html::HtmlHandlebars;
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext, parse_input};
use std::path::{Path, PathBuf};
use std::{env, io, process};

/// Builds the book, serves it on this machine, and builds it again at each change.
#[derive(Parser)]
#[command(name = "cargo book", bin_name = "cargo book")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to serve it: 0 takes a free port
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the book to target/book
    Build,
    /// Says what is wrong with the book, and writes nothing
    Check,
    /// What a plain `mdbook build book` runs
    #[command(hide = true)]
    Preprocess { question: Option<String>, renderer: Option<String> },
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(error) = run(&arguments) {
        eprintln!("{error:#}");
        process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        None => serve::serve(&root()?, arguments.port),
        Some(Command::Build) => {
            let folder = build(&root()?)?;
            println!("The book is in {}", folder.display());
            Ok(())
        }
        Some(Command::Check) => {
            load(&root()?)?.preprocess_book(&HtmlHandlebars::new())?;
            Ok(())
        }
        Some(Command::Preprocess { question: Some(_), renderer }) => {
            ensure!(renderer.as_deref() == Some("html"), "only for HTML");
            Ok(())
        }
        Some(Command::Preprocess { .. }) => {
            let (context, book) = parse_input(io::stdin())?;
            serde_json::to_writer(io::stdout(), &Steps.run(&context, book)?)?;
            Ok(())
        }
    }
}

/// The root of the repository: the first folder from here upwards that has a book.
fn root() -> Result<PathBuf> {
    let here = env::current_dir()?;
    let root = here.ancestors().find(|folder| folder.join("book/book.toml").is_file());
    Ok(root
        .context("there is no book/book.toml here or in a folder above")?
        .to_path_buf())
}

/// Builds the book, and returns the folder that it is in.
///
/// # Errors
/// Says what is wrong with the book. What was in the folder stays there.
fn build(root: &Path) -> Result<PathBuf> {
    let book = load(root)?;
    book.build()?;
    Ok(book.build_dir_for("html").canonicalize()?)
}

fn load(root: &Path) -> Result<MDBook> {
    let mut book = MDBook::load(root.join("book"))?;
    book.with_preprocessor(Steps);
    Ok(book)
}

/// The preprocessor that `book.toml` names.
struct Steps;

impl Preprocessor for Steps {
    fn name(&self) -> &str {
        "steps"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let root = context.root.join("..");
        let url: Option<String> = context.config.get("output.html.git-repository-url")?;
        // The book is two folders deep, in `target`, as its text is, in `book`.
        let repository = url.map_or("../../".into(), |url| format!("{url}/blob/HEAD/"));
        let counted = Directives::read(&root, repository.clone())?.replace(&mut book)?;
        let links = check::links(context, &book, &root, &repository)?;
        eprintln!("{counted}, {links} links");
        Ok(book)
    }
}
