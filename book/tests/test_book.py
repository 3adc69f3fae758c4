"""Reads the book in a browser, as `cargo book` serves it.

The chapters are those of SUMMARY.md. The browser is Debian's `chromium`.
"""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHAPTERS = re.findall(r"\((.+)\.md\)", (ROOT / "book/src/SUMMARY.md").read_text())
STEPS = [path.name for path in sorted(ROOT.glob("steps/*"))]
THEMES = ["light", "rust", "coal", "navy", "ayu"]
WIDTHS = [360, 1024, 1600]
MAX_BYTES = 150_000  # compressed
OPTIONS = """--no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync"""


@pytest.fixture(scope="session")
def book():
    """Where the book is served."""
    command = ["cargo", "book", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("The book is at "):
                break
        else:
            pytest.exit(f"{' '.join(command)} does not serve the book:\n{''.join(lines)}")
        yield line.split()[-1]
        server.terminate()


@pytest.fixture(scope="session")
def browser():
    path = shutil.which("chromium")
    if not path:
        pytest.exit("There is no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=CHAPTERS)
def page(request, browser, book):
    """A chapter, loaded once for all tests. `page.noise` is what it has said or asked for."""
    context = browser.new_context(base_url=book)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.noise = []
    page.on("console", lambda message: page.noise.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: page.noise.append(str(error)))
    page.on(
        "request",
        lambda asked: asked.url.startswith(book + "/") or page.noise.append(asked.url),
    )
    page.goto(f"/{request.param}.html")
    yield page
    context.close()


def show(page, theme, width):
    if page.viewport_size["width"] != width:
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()  # It is then that mdBook decides whether there is room for its sidebar.
    page.locator(f"#mdbook-theme-{theme}").evaluate("button => button.click()")
    expect(page.locator("html")).to_contain_class(theme)


def fold(page, what, is_open):
    page.locator(what).evaluate_all(
        "(all, isOpen) => all.forEach(details => details.open = isOpen)", is_open
    )


def test_weight(page):
    """Whoever opens a page waits for little, on a server that compresses."""
    names = page.evaluate(
        """() => performance.getEntries()
            .filter(entry => entry.decodedBodySize && !/searchindex/.test(entry.name))
            .map(entry => entry.name)"""
    )
    sizes = {name: len(gzip.compress(page.request.get(name).body())) for name in names}
    listed = "\n".join(f"{size:8} {name}" for name, size in sorted(sizes.items()))
    assert sum(sizes.values()) <= MAX_BYTES, listed


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_width(page, width, theme):
    """Only code scrolls sideways, and pictures are not cut off."""
    show(page, theme, width)
    fold(page, "details", True)
    too_wide = page.evaluate(
        """() => {
            const scrolls = '.listing, .listing *, pre, pre code, .spoken';
            const inList = 'ol:has(.solution), li:has(.solution), .solution';
            const boxes = document.querySelectorAll(
                `html, .content, main, main :not(${scrolls}, ${inList}, svg *)`);
            const right = e => Math.floor(e.getBoundingClientRect().right);
            return [
                ...[...boxes].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth),
                ...[...document.querySelectorAll('main svg *')]
                    .filter(e => right(e) > right(e.ownerSVGElement)),
            ].map(e => e.cloneNode(e.closest('svg')).outerHTML);
        }"""
    )
    assert not too_wide, "These do not fit:\n" + "\n".join(too_wide)


def complaints(page, rules):
    """What axe finds to mend."""
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate(
        "rules => axe.run('main', { runOnly: rules, resultTypes: ['violations'] })", rules
    )
    nodes = [node for rule in found["violations"] for node in rule["nodes"]]
    return "\n".join(f"{node['html']}\n{node['failureSummary']}" for node in nodes)


@pytest.mark.parametrize("theme", THEMES)
def test_accessibility(page, theme):
    """axe finds nothing to mend, in folded code neither."""
    show(page, theme, 1024)
    fold(page, "details", True)
    # What is in there stands above, too. It takes so long that it is looked at in one theme.
    fold(page, "details.whole", theme == THEMES[0])
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    assert not complaints(page, rules)


def test_print(page):
    """On paper a dark theme is a light one, and what is folded is there to be read."""
    show(page, "navy", 1024)
    fold(page, "details", False)
    page.emulate_media(media="print")
    try:
        assert not complaints(page, ["color-contrast"])
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        for session in page.locator("details:is(.session, .answer) .conversation").all():
            assert session.bounding_box()["height"] > 10
    finally:
        page.emulate_media(media="screen")


def test_spoken(page):
    """Who hears a page hears what comes and goes in a diff, and who speaks in a conversation."""
    fold(page, "details", True)
    for figure in page.locator("figure.code").all():
        heard = figure.aria_snapshot()
        assert ("- insertion" in heard) == (figure.locator("ins").count() > 0)
        assert ("- deletion" in heard) == (figure.locator("del").count() > 0)
    for session in page.locator(".conversation").all():
        heard = session.aria_snapshot()
        for line in session.locator("> *").all():
            who = line.get_attribute("data-client") or ""
            spoken = {"sent": f"{who} types: ", "received": "answers", "event": "event"}
            assert spoken[line.get_attribute("class")].strip() in heard


def copied(button, done="Copied"):
    """What a click on a button copies."""
    button.click()
    expect(button).to_have_text(done)
    return button.page.evaluate("navigator.clipboard.readText()")


def test_copy_code(page):
    """The button of a diff copies the new code, as it stands in the step's file."""
    fold(page, "details.whole", True)
    fold(page, ".listing details", False)
    for figure in page.locator("figure.code:has(button.copy)").all():
        link = figure.locator("figcaption a").get_attribute("href")
        path, first, last = re.search(r"(steps/.+?)(?:#L(\d+)(?:-L(\d+))?)?$", link).groups()
        lines = (ROOT / path).read_text().splitlines(keepends=True)
        if first:
            lines = lines[int(first) - 1 : int(last or first)]
        assert copied(figure.locator("button.copy")) == "".join(lines), link


def test_copy_command(page):
    """The button of a session copies the command that replays it."""
    fold(page, "details:is(.session, .answer)", True)
    for session in page.locator(".session:has(.command:visible)").all():
        place = session.get_attribute("id") or session.locator("[id]").get_attribute("id")
        name, _, step = place.rpartition("-")
        command = f"scripts/telnet-demo.sh {step} {name}"
        if not name:  # An exercise's goal.
            command = f"cargo how-far --session {step}"
        assert copied(session.locator(".command button.copy")) == command


def test_copy_shell(page):
    """The button of a command in the text copies the command."""
    for code in page.locator("pre > code.language-sh").all():
        code.hover()
        button = code.locator("xpath=..").locator("button.clip-button")
        assert copied(button, "Copied!") == code.inner_text()


def escaped(text):
    """A line of an answer, as a conversation in the book has it."""
    text = text.replace("\\", "\\\\").replace("\t", "\\t")
    return re.sub(
        r"[^ -~]", lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), text
    )


def test_play(page):
    """The steps' own code answers in the page as the conversation beside it says."""
    fold(page, "details", True)
    for button in page.locator("button.play:visible").all():
        session = button.locator(
            "xpath=ancestor::*[contains(concat(' ', @class, ' '), ' session ')][last()]"
        )
        said = ":scope:not(.try) .conversation > .received"
        expected = session.locator(said).evaluate_all(
            """lines => lines.map(line => [...line.childNodes]
                .filter(node => !node.className).map(node => node.textContent).join('').trimEnd())"""
        )
        button.click()
        box = page.locator(".try")
        expect(box.locator("[role=status]")).not_to_be_empty()
        came = box.locator(".conversation > .received").evaluate_all(
            """lines => lines.map(line => [...line.childNodes]
                .filter(node => !node.className).map(node => node.textContent).join('').trimEnd())"""
        )
        command = button.locator("xpath=..").inner_text()
        shown = [line.replace("an empty line", "") for line in expected]
        assert [escaped(line) for line in came] == [
            re.sub(r"\\x20$", "", line) for line in shown
        ], command


def test_quiet(page):
    """Comes last: in all this, a page has complained of nothing, and asked nobody else."""
    assert not page.noise


def test_telnet(browser, book):
    """One types a line, and Enter; the server waits, answers, and closes. No mouse is needed."""
    page = browser.new_page(base_url=book)
    page.goto("/05-thread-per-connection.html")
    line = page.get_by_label("Type a line:")
    status, screen = page.locator(".try [role=status]"), page.locator(".try [role=log]")
    line.focus()
    page.keyboard.type("GET /headers HTTP/1.1")
    page.keyboard.press("Enter")
    expect(status).to_have_text("Step 05 waits for you.")
    page.get_by_role("button", name="Let time pass").press("Enter")
    expect(screen).to_contain_text("408 Request Timeout")
    page.get_by_role("button", name="New connection").press("Enter")
    expect(screen).to_be_empty()
    line.focus()
    for text in ["BREW / HTTP/1.1", "Host: localhost", ""]:
        page.keyboard.type(text)
        page.keyboard.press("Enter")
    expect(screen).to_contain_text("501 Not Implemented")
    expect(screen).to_contain_text('05 "BREW / HTTP/1.1" 501')
    page.get_by_label("02").check()
    expect(screen).to_contain_text("Method BREW, target /, version HTTP/1.1.")
    page.get_by_role("button", name="New connection").press("Enter")
    line.fill("x" * 1_000_000)
    line.press("Enter")
    expect(screen).to_contain_text("more bytes than the limit allows")
    expect(page.locator(".try [type=radio]")).to_have_count(len(STEPS))
    page.close()


def test_all_steps(browser, book):
    """One request, and what each step answers."""
    page = browser.new_page(base_url=book)
    page.goto("/index.html")
    page.get_by_role("button", name="BREW /pot").click()
    answers = page.locator(".all-steps .answers pre")
    expect(answers).to_contain_text(["Hello, world!", "Method BREW", "Method BREW", "501", "501"])
    page.get_by_label("Type a request").fill("GET / HTTP/1.1\n")
    page.get_by_role("button", name="Send it to all steps").click()
    expect(answers).to_contain_text(["200", "200", "waits", "waits", "waits"])
    page.close()


@pytest.mark.parametrize(
    "what", [".listing details", "details.whole", "details.session"]
)
def test_keyboard(browser, book, what):
    """Enter unfolds, and folds again: on the first page that has something to fold."""
    page = browser.new_page(base_url=book)
    details = page.locator(f"main {what}").first
    for chapter in CHAPTERS:
        page.goto(f"/{chapter}.html")
        if details.count():
            break
    line = details.locator("pre").first
    expect(line).to_be_hidden()
    details.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(line).to_be_visible()
    page.keyboard.press("Enter")
    expect(line).to_be_hidden()
    page.close()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_without_scripts(browser, book, chapter):
    """Without JavaScript, all that is not folded is there to be read."""
    page = browser.new_page(base_url=book, java_script_enabled=False)
    page.goto(f"/{chapter}.html")
    text = page.locator("main > p, main :is(h1, h2, h3, pre > *):not(details *)")
    assert text.count()
    hidden = "all => all.filter(e => !e.checkVisibility()).map(e => e.outerHTML)"
    assert not text.evaluate_all(hidden)
    page.close()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_contrast_without_scripts(browser, book, chapter):
    """Nor is it pale on a dark system. (axe is a script itself: those of the page are cut out.)"""

    def cut(route):
        text = re.sub("<script.*?</script>", "", route.fetch().text(), flags=re.DOTALL)
        route.fulfill(body=text, content_type="text/html")

    page = browser.new_page(base_url=book, color_scheme="dark")
    page.route("**/*.html", cut)
    page.goto(f"/{chapter}.html")
    assert not page.locator("html.js").count()
    assert not complaints(page, ["color-contrast"])
    page.close()


def test_unfold(browser, book):
    """A link to a conversation that is folded unfolds it."""
    page = browser.new_page(base_url=book)
    page.goto("/sessions.html")
    page.get_by_role("link", name="A version too new").click()
    page.wait_for_url("**/0*.html#version_2-*")
    expect(page.locator(page.url[page.url.index("#"):])).to_be_in_viewport()
    page.close()


@pytest.mark.parametrize("step", STEPS)
def test_chapter(browser, book, step):
    """A step has diffs and sessions: nothing above is true only for want of them."""
    page = browser.new_page(base_url=book)
    page.goto(f"/{step}.html")
    changes = ["figure.code ins", "figure.code del"] if step != STEPS[0] else []
    for what in ["figure.code pre > *", ".conversation > *", "button.copy", *changes]:
        expect(page.locator(f"main {what}").first).to_be_visible()
    page.close()
