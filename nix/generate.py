#!/usr/bin/env python3
"""Writes options.nix, the typed options of the NixOS module, from haven's own settings file: one fact has one home.

    nix/generate.py            writes nix/options.nix
    nix/generate.py --check    ends with 1 where it is not what it would write: a setting was added or changed
"""
import pathlib
import re
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
SETTINGS = HERE.parent / "crates/haven/src/haven.toml"
OUT = HERE / "options.nix"

HEAD = """# Written by nix/generate.py from crates/haven/src/haven.toml: change that, and run it again.
# An option that is not set is not written, and then what stands in haven.toml holds.
{ lib }:
let
  inherit (lib) mkOption types;
  setting = type: default: description: mkOption {
    type = types.nullOr type;
    default = null;
    defaultText = lib.literalMD default;
    inherit description;
  };
  table = description: options: mkOption {
    type = types.submodule { freeformType = types.attrsOf types.anything; inherit options; };
    default = { };
    inherit description;
  };
in
"""


def text(words):
    """A Nix string."""
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def nix_type(value):
    if isinstance(value, bool):
        return "types.bool"
    if isinstance(value, int):
        # 0 may stand for a size or a count; sizes and durations are text.
        return "(types.either types.ints.unsigned types.str)"
    if isinstance(value, float):
        return "(types.either types.float types.ints.unsigned)"
    if isinstance(value, list):
        kinds = {nix_type(item) for item in value} or {"types.anything"}
        return f"(types.listOf {kinds.pop()})" if len(kinds) == 1 else "(types.listOf types.anything)"
    if isinstance(value, dict):
        return "(types.attrsOf types.anything)"
    return "types.str"


class Node:
    def __init__(self):
        self.settings, self.tables = {}, {}

    def at(self, path):
        node = self
        for name in path:
            node = node.tables.setdefault(name, Node())
        return node


def whole(lines):
    """Joins a value that goes on over lines; yields (line, is a comment)."""
    open_lines = ""
    for line in lines:
        if open_lines:
            open_lines += "\n" + line
        elif re.match(r"#?[a-z_0-9.]+ = [\[{]\s*$", line):
            open_lines = line
        else:
            yield line
            continue
        if re.match(r"#?[\]}]", line):
            yield open_lines.replace("\n#", "\n") if open_lines.startswith("#") else open_lines
            open_lines = ""


def read(lines):
    root, here, about = Node(), [], []
    for line in whole(lines):
        table = re.match(r"(#?)\[\[?([A-Za-z0-9_.\-]+)\]?\]$", line)
        # Like the reader of haven itself: `#name = …` is a setting without a default, `# Words` are words.
        entry = re.match(r"(#?)([a-z_0-9.]+) = (.+)", line, re.S)
        if table:
            here, about = table.group(2).split("."), []
            # A table that is commented out stands for those of the owner's choice: [replica.NAME], [alert.phone].
            if table.group(1):
                here = [*here[:-1], "NAME"]
            root.at(here)
        elif entry and here:
            sign, full, value = entry.groups()
            *above, name = full.split(".")
            parsed = tomllib.loads(f"x = {value}")["x"]
            # Where kinds of tables share a name, the first tells of it.
            root.at([*here, *above]).settings.setdefault(
                name, (parsed, value.split("\n")[0].strip(), bool(sign), " ".join(about)))
            about = []
        elif re.match(r"# |#$", line):
            about.append(line[2:].strip())
        elif not line.strip():
            about = []
    return root


def write(node, depth, out, path):
    pad = "  " * depth
    for name, (value, shown, unset, about) in node.settings.items():
        default = f"none; for example `{shown}`" if unset else f"`{shown}`"
        out.append(f"{pad}{name} = setting {nix_type(value)} {text(default)} {text(about or name)};")
    for name, child in node.tables.items():
        if name.isupper():
            continue
        inner = [key for key in child.tables if key.isupper()]
        full = ".".join([*path, name])
        if inner:
            # [replica] has settings for all, and [replica.NAME] one table for each name of the owner's choice.
            one = child.tables[inner[0]]
            out.append(f"{pad}{name} = mkOption {{")
            out.append(f"{pad}  description = {text(f'What stands under [{full}], and one table for each name.')};")
            out.append(f"{pad}  default = {{ }};")
            out.append(f"{pad}  type = types.submodule {{")
            out.append(f"{pad}    freeformType = types.attrsOf (types.submodule {{")
            out.append(f"{pad}      freeformType = types.attrsOf types.anything;")
            out.append(f"{pad}      options = {{")
            both = Node()
            both.settings = {**child.settings, **one.settings}
            both.tables = one.tables
            write(both, depth + 4, out, [*path, name, "NAME"])
            out.append(f"{pad}      }};")
            out.append(f"{pad}    }});")
            out.append(f"{pad}    options = {{")
            plain = Node()
            plain.settings = child.settings
            plain.tables = {key: table for key, table in child.tables.items() if not key.isupper()}
            write(plain, depth + 3, out, [*path, name])
            out.append(f"{pad}    }};")
            out.append(f"{pad}  }};")
            out.append(f"{pad}}};")
            continue
        out.append(f"{pad}{name} = table {text(f'What stands under [{full}].')} {{")
        write(child, depth + 1, out, [*path, name])
        out.append(f"{pad}}};")


def made():
    out = []
    write(read(SETTINGS.read_text().splitlines()), 1, out, [])
    return HEAD + "{\n" + "\n".join(out) + "\n}\n"


def main():
    new = made()
    if "--check" in sys.argv[1:]:
        if not OUT.exists() or OUT.read_text() != new:
            sys.exit("nix/options.nix does not follow haven.toml: run nix/generate.py")
        return
    OUT.write_text(new)


if __name__ == "__main__":
    main()
