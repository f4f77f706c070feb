#!/usr/bin/env bash
# readme.sh [--check]: writes the table of values in the chart's README from the comments in values.yaml;
# with --check it changes nothing and fails when the table is out of date.
set -euo pipefail

chart=$(dirname "${BASH_SOURCE[0]}")/callplane

# A comment directly above a key is that key's; an empty line ends it. Keys with keys below them get a
# heading when they are at the top, and otherwise lend their name to the keys below.
table() {
  awk '
    function flush_row() {
      if (key == "") return
      if (value == "" && !has_children) value = "`null`"
      if (!has_children) {
        if (heading) { print "\n| value | default | what it does |\n|---|---|---|"; heading = 0 }
        gsub(/\|/, "\\|", comment)
        print "| `" key "` | `" value "` | " comment " |"
      } else if (depth == 0) {
        print "\n### " key "\n\n" comment
        heading = 1
      }
      key = ""
    }
    /^ *#/ { text = $0; sub(/^ *# ?/, "", text); pending = pending (pending == "" ? "" : " ") text; next }
    /^ *$/ { pending = ""; next }
    /^ *[A-Za-z]+:/ {
      indent = match($0, /[^ ]/) - 1
      name = $0; sub(/^ */, "", name); sub(/:.*/, "", name)
      has_children = (key != "" && indent / 2 > depth)
      flush_row()
      depth = indent / 2
      names[depth] = name
      key = names[0]
      for (i = 1; i <= depth; i++) key = key "." names[i]
      value = $0; sub(/^ *[A-Za-z]+: */, "", value)
      comment = pending; pending = ""
      if (comment == "") { print "values.yaml: " key " has no comment" > "/dev/stderr"; failed = 1 }
    }
    END { has_children = 0; flush_row(); exit failed }
  ' "$chart/values.yaml"
}

generated=$(
  sed '/^<!-- values: /q' "$chart/README.md"
  table
  echo
  sed -n '/^<!-- end of values -->/,$p' "$chart/README.md"
)
if [[ ${1:-} != --check ]]; then
  printf '%s\n' "$generated" >"$chart/README.md"
elif ! diff -u "$chart/README.md" <(printf '%s\n' "$generated"); then
  echo "charts/callplane/README.md is out of date: run charts/readme.sh" >&2
  exit 1
fi
