#!/usr/bin/env python3
"""Checks the manual against the program: every `haven …` in it has a subcommand and flags that `--help` knows, every TOML
block is a haven.toml that is read, every link leads somewhere, every chapter is in the summary, and every finding has its
section. Prints what is wrong, one a line; exit code 1 if there is any.

    scripts/lib/manual.py HAVEN
"""
import functools
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
wrong: list[str] = []
seen = {"commands": 0, "settings": 0, "links": 0, "outside": 0, "findings": 0}


@functools.cache
def help_of(haven: str, words: tuple[str, ...]) -> str | None:
    ran = subprocess.run([haven, *words, "--help"], capture_output=True, text=True)
    return ran.stdout if ran.returncode == 0 else None


def subcommands(text: str) -> set[str]:
    listed = re.search(r"^Commands:\n((?:  .*\n|\n)*)", text, re.M)
    return set(re.findall(r"^  ([a-z][a-z-]*)", listed.group(1), re.M)) if listed else set()


def check_command(haven: str, where: str, words: list[str]) -> None:
    seen["commands"] += 1
    path: list[str] = []
    text = help_of(haven, ()) or ""
    rest = list(words)
    while rest and not rest[0].startswith("-") and rest[0] in subcommands(text):
        path.append(rest.pop(0))
        text = help_of(haven, tuple(path)) or ""
    if not path and rest and not rest[0].startswith("-") and not rest[0].isupper():
        wrong.append(f"{where}: there is no `haven {rest[0]}`")
        return
    # A command of commands alone wants one of them. (`haven setup` and `haven drill` do something by themselves.)
    usage = re.search(r"^Usage: (.*)$", text, re.M)
    if path and usage and usage.group(1).endswith("<COMMAND>"):
        wrong.append(f"{where}: `haven {' '.join(path)}` wants a subcommand, not {' '.join(rest[:1]) or 'nothing'}")
    for word in rest:
        flag = re.match(r"(--[a-z][a-z-]*|-[a-zA-Z])(=|$)", word)
        if flag and not re.search(rf"(^|[\s,]){re.escape(flag.group(1))}\b", text):
            wrong.append(f"{where}: `haven {' '.join(path)}` has no {flag.group(1)}")


def commands_in(line: str) -> list[list[str]]:
    """The haven commands of a line of shell."""
    if "haven" not in line:
        return []
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
    except ValueError:
        return []
    found: list[list[str]] = []
    start, open_one = True, None
    for word in words:
        if word and set(word) <= set(";&|"):
            start, open_one = True, None
        elif start and word == "haven":
            open_one, start = [], False
            found.append(open_one)
        elif open_one is not None:
            open_one.append(word)
        elif start and not (word == "sudo" or re.match(r"[A-Z_]+=", word)):
            start = False
    return found


def blocks(text: str):
    """(language, text, line number) of each fenced block, and the text without them."""
    plain, out, fence, body, begun = [], [], None, [], 0
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*```(\w*)", line)
        if mark and fence is None:
            fence, body, begun = mark.group(1), [], number
        elif mark:
            out.append((fence, "\n".join(body), begun))
            fence = None
        elif fence is None:
            plain.append((number, line))
        else:
            body.append(line.strip() if not fence else line)
    return out, plain


def check_settings(haven: str, where: str, text: str) -> None:
    if re.match(r"\s*scrape_configs", text):
        return
    seen["settings"] += 1
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        ran = subprocess.run([haven, "--config", file.name, "config"], capture_output=True, text=True)
        if ran.returncode:
            wrong.append(f"{where}: haven.toml: {ran.stderr.strip()}")


def anchors(path: pathlib.Path) -> set[str]:
    _, plain = blocks(path.read_text())
    heads = [re.match(r"#+ (.*)", line) for _, line in plain]
    slug = lambda head: re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).strip().replace(" ", "-")
    return {slug(head.group(1)) for head in heads if head}


def check_links(path: pathlib.Path, plain: list[tuple[int, str]]) -> None:
    for number, line in plain:
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            where = f"{path.relative_to(ROOT)}:{number}"
            if re.match(r"[a-z]+:", target):
                seen["outside"] += 1
                continue
            seen["links"] += 1
            name, _, anchor = target.partition("#")
            to = (path.parent / name).resolve() if name else path
            if not to.exists():
                wrong.append(f"{where}: {target} leads nowhere")
            elif anchor and to.suffix == ".md" and anchor not in anchors(to):
                wrong.append(f"{where}: {target}: there is no such heading")


def finding_keys() -> set[str]:
    """The keys in the keeper's code: what Finding::critical("…", Finding::warning("… and Finding::new("… begin with."""
    keys: set[str] = set()
    for path in (ROOT / "crates/keeper/src/findings").glob("*.rs"):
        code = path.read_text().split("#[cfg(test)]")[0]
        keys |= set(re.findall(r"Finding::(?:critical|warning|info|new)\(\s*\"([a-z-]+)\"", code))
    return keys


def main() -> int:
    haven = sys.argv[1]
    pages = sorted(DOCS.glob("book/*.md")) + [ROOT / "README.md", DOCS / "machine.md", DOCS / "metrics.md", DOCS / "SUMMARY.md"]
    summary = (DOCS / "SUMMARY.md").read_text()
    for path in pages:
        shown = path.relative_to(ROOT)
        fenced, plain = blocks(path.read_text())
        check_links(path, plain)
        for language, text, begun in fenced:
            if language in ("", "sh", "bash"):
                for number, line in enumerate(re.sub(r"\\\n\s*", " ", text).splitlines(), begun + 1):
                    for words in commands_in(line):
                        check_command(haven, f"{shown}:{number}", words)
            elif language == "toml":
                check_settings(haven, f"{shown}:{begun}", text)
        for number, line in plain:
            for code in re.findall(r"`((?:sudo )?haven [^`]*)`", line):
                for words in commands_in(code.replace("…", "")):
                    check_command(haven, f"{shown}:{number}", words)
        if path.parent.name == "book" and f"](book/{path.name})" not in summary:
            wrong.append(f"docs/SUMMARY.md lacks {path.name}")
    keys, sections = finding_keys(), anchors(DOCS / "book/alerts.md")
    seen["findings"] = len(keys)
    if (ROOT / "crates/keeper").is_dir() and len(keys) < 20:
        wrong.append(f"only {len(keys)} keys of findings were found in crates/keeper: this script no longer reads them")
    wrong.extend(f"docs/book/alerts.md has no section for the finding {key}" for key in sorted(keys - sections))
    wrong.extend(
        f"docs/book/alerts.md tells of {key}, which there is not"
        for key in sorted(sections - keys - {"what-each-alert-means"}) if keys
    )
    for line in wrong:
        print(line)
    print(" ".join(f"{count} {what}" for what, count in seen.items()) + f"; {len(wrong)} wrong", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
