//! docs/CONFIG.md, derived from the table.

use std::fmt::Write;

use super::kind::Kind;
use super::rules;
use super::table::{Group, Setting, settings};

const HEAD: &str = "\
# Settings

<!-- Generated from src/config/rows.rs by `UPDATE_DOCS=1 cargo test config::docs`. -->

A setting has one name everywhere. `maxmemory-policy`, for example, is

| where | how |
| --- | --- |
| flag | `--maxmemory-policy allkeys-lru` |
| environment | `CORRAL_MAXMEMORY_POLICY=allkeys-lru` |
| file, read with `--config corral.toml` | `maxmemory-policy = \"allkeys-lru\"` |
| at run time | `CONFIG GET maxmemory-policy`, `CONFIG SET maxmemory-policy allkeys-lru` |

Flags beat the environment, the environment beats the file, the file beats the defaults. No file \
is needed. Where Redis has a setting of the same name it means the same, in the same units.

- An unknown name or a value out of bounds stops the start, with the place it stands in. \
`--check-config` reads and checks everything and exits.
- Bytes take a unit: `1k` is 1000, `1kb` is 1024, and so on with `m`, `mb`, `g`, `gb`.
- In the file, `yes` and `no` may be `true` and `false`, and a list may be an array: \
`bind = [\"127.0.0.1\", \"-::1\"]`.
- An empty environment variable counts as not set. Variables that Kubernetes sets for a service \
called `corral` (`CORRAL_SERVICE_HOST`, `CORRAL_PORT=tcp://...`) are left alone.
- `CONFIG REWRITE` writes what CONFIG SET changed into the file and keeps its comments and order.

The last column says whether CONFIG SET can change a setting while the server runs.
";

/// docs/CONFIG.md: every setting, its values, default and meaning.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for &group in Group::ALL {
        if group == Group::Fixed {
            rules::docs::write(&mut text);
            fixed(&mut text);
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {}\n\n", group.title());
        text.push_str("| setting | what it does | values | default | at run time |\n");
        text.push_str("| --- | --- | --- | --- | --- |\n");
        for setting in settings().filter(|setting| setting.group == group) {
            row(&mut text, setting);
        }
    }
    text
}

fn row(text: &mut String, setting: &Setting) {
    let alias = setting
        .shape
        .alias
        .map(|alias| format!(" (also `{alias}`)"))
        .unwrap_or_default();
    let default = match (setting.shape.default_words, setting.default_text()) {
        (Some(words), _) => words.to_owned(),
        (None, value) if value.is_empty() => "empty".to_owned(),
        (None, value) => format!("`{value}`"),
    };
    let values = if let Kind::Choice(words) = setting.shape.kind {
        words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    } else {
        setting.shape.kind.expectation()
    };
    let change = if setting.shape.is_mutable {
        "yes"
    } else {
        "no"
    };
    let name = setting.name;
    let doc = setting.doc();
    let _ = writeln!(
        text,
        "| `{name}`{alias} | {doc} | {values} | {default} | {change} |"
    );
}

fn fixed(text: &mut String) {
    text.push_str(
        "\n## Fixed\n\n\
         Settings of Redis that tools ask for and that have one value here. They may be set to \
         that value.\n\n\
         | setting | value | why |\n| --- | --- | --- |\n",
    );
    for setting in settings().filter(|setting| setting.is_fixed()) {
        let alias = setting
            .shape
            .alias
            .map(|alias| format!(" (also `{alias}`)"))
            .unwrap_or_default();
        let value = match setting.default_text() {
            value if value.is_empty() => "empty".to_owned(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(
            text,
            "| `{}`{alias} | {value} | {} |",
            setting.name,
            setting.doc()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");

    #[test]
    fn the_documentation_is_in_step_with_the_table() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PATH, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(PATH).unwrap();
        assert!(
            written == markdown(),
            "docs/CONFIG.md is old: UPDATE_DOCS=1 cargo test config::docs"
        );
    }
}
