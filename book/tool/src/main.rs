//! Builds the book, checks it, and serves it while it is written.

mod check;
mod directives;
mod highlight;
mod page;
mod serve;
mod steps;
mod wasm;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use directives::Directives;
use mdbook_driver::MDBook;
use mdbook_html::HtmlHandlebars;
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::config::Config;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext, parse_input};
use mdbook_renderer::{RenderContext, Renderer};
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};
use tempfile::TempDir;

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
            eprintln!("{}", render(&root()?)?.counted);
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
    let Rendered { folder, place, counted } = render(root)?;
    if place.exists() {
        fs::rename(&place, folder.path().join("old"))?;
    }
    fs::rename(folder.path().join("book"), &place)?;
    eprintln!("{counted}");
    Ok(place.canonicalize()?)
}

/// The book, rendered and checked, but not in its place yet.
struct Rendered {
    /// It has the book, in `book`, and is gone when this is dropped.
    folder: TempDir,
    /// Where the book belongs.
    place: PathBuf,
    /// What there is in it, in words.
    counted: String,
}

/// Renders the book, and checks it.
///
/// # Errors
/// Says what is wrong with the book.
fn render(root: &Path) -> Result<Rendered> {
    let mut book = MDBook::load(root.join("book"))?;
    let place = book.build_dir_for("html");
    let target = place.parent().context("the book belongs into a folder")?;
    fs::create_dir_all(target)?;
    let folder = tempfile::Builder::new().prefix("book-").tempdir_in(target)?;
    let new = folder.path().join("book");
    let counted = make(&book.root, &book.config, &mut book.book, &new)?;
    wasm::add(root, &new)?;
    Ok(Rendered { folder, place, counted })
}

/// Replaces the directives of a book, renders it into a folder, and checks it. Returns what there
/// is in it, in words.
fn make(
    book_root: &Path,
    config: &Config,
    book: &mut Book,
    folder: &Path,
) -> Result<String> {
    let root = book_root.join("..");
    let url: Option<String> = config.get("output.html.git-repository-url")?;
    // The book is two folders deep, in `target`, as its text is, in `book`.
    let repository = url.map_or("../../".into(), |url| format!("{url}/blob/HEAD/"));
    let counted = Directives::read(&root, repository.clone())?.replace(book)?;
    let context = RenderContext::new(book_root, book.clone(), config.clone(), folder);
    HtmlHandlebars::new().render(&context)?;
    let links = check::links(folder, &root, &repository)?;
    Ok(format!("{counted}, {links} links"))
}

/// The preprocessor that `book.toml` names. A plain `mdbook build` renders the book after it, and
/// would replace the old one whatever is wrong: so it is rendered here, too, and checked.
struct Steps;

impl Preprocessor for Steps {
    fn name(&self) -> &str {
        "steps"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let mut config = context.config.clone();
        config.set("output.html.search.enable", false)?; // It takes time.
        let folder = tempfile::tempdir()?;
        eprintln!("{}", make(&context.root, &config, &mut book, folder.path())?);
        Ok(book)
    }
}
