//! What of a request may be seen by others than who sent it: the slow log and `MONITOR` show
//! `(redacted)` in the place of every password.

use super::super::options::is_word;
use super::super::spec::Command;
use crate::config;
use crate::resp::Request;

/// What stands for a secret; Redis's.
const REDACTED: &[u8] = b"(redacted)";

/// The words of a request, without what is secret.
pub(in crate::command) fn shown<'a>(command: &Command, request: &Request<'a>) -> Vec<&'a [u8]> {
    let words = request.iter_from(0);
    let Some(is_secret) = Secrets::of(command.name) else {
        return words.collect();
    };
    let mut secret_words = 0;
    words
        .enumerate()
        .map(|(index, word)| {
            let secret = match is_secret {
                Secrets::From(first) => index >= first,
                Secrets::AfterWord(first, words) => {
                    let found = words.iter().find(|(name, _)| is_word(word, name));
                    if secret_words > 0 {
                        secret_words -= 1;
                        true
                    } else {
                        if let (Some((_, count)), true) = (found, index >= first) {
                            secret_words = *count;
                        }
                        false
                    }
                }
                Secrets::Settings => index % 2 == 1 && index > 2 && is_sensitive(request, index),
            };
            if secret { REDACTED } else { word }
        })
        .collect()
}

/// Where a command's secrets stand.
#[derive(Clone, Copy)]
enum Secrets {
    /// Everything from this word on.
    From(usize),
    /// From the first index on, so many words behind one of these words.
    AfterWord(usize, &'static [(&'static str, usize)]),
    /// The values of `CONFIG SET` that are passwords.
    Settings,
}

impl Secrets {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "auth" => Self::From(1),
            "acl|setuser" => Self::From(2),
            "hello" => Self::AfterWord(2, &[("auth", 2)]),
            // host port key db timeout, then options
            "migrate" => Self::AfterWord(6, &[("auth", 1), ("auth2", 2)]),
            "config|set" | "corral.config|set" => Self::Settings,
            _ => return None,
        })
    }
}

/// Whether the value at `index` is that of a password.
fn is_sensitive(request: &Request<'_>, index: usize) -> bool {
    let name = String::from_utf8_lossy(request.argument(index - 1));
    config::find(&name).is_some_and(|(setting, _)| setting.shape.is_sensitive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lookup;
    use crate::resp::decode::OwnedRequest;

    fn shown_as(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let owned = OwnedRequest::of(&words);
        let request = owned.as_request();
        let command = lookup::resolve(&request).unwrap();
        let words = shown(command, &request);
        let words: Vec<_> = words
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        words.join(" ")
    }

    #[test]
    fn passwords_are_not_shown() {
        let hidden = "(redacted)";
        for (line, expected) in [
            ("auth u p", format!("auth {hidden} {hidden}")),
            (
                "HELLO 3 AUTH u p SETNAME x",
                format!("HELLO 3 AUTH {hidden} {hidden} SETNAME x"),
            ),
            (
                "acl setuser u on >p",
                format!("acl setuser {hidden} {hidden} {hidden}"),
            ),
            (
                "config set port 1 RequirePass p hz 10",
                format!("config set port 1 RequirePass {hidden} hz 10"),
            ),
            (
                "migrate h 1 k 9 5 AUTH2 u p",
                format!("migrate h 1 k 9 5 AUTH2 {hidden} {hidden}"),
            ),
            (
                "migrate h 1 auth 9 5 AUTH p",
                format!("migrate h 1 auth 9 5 AUTH {hidden}"),
            ),
        ] {
            assert_eq!(shown_as(line), expected);
        }
    }

    #[test]
    fn everything_else_is_shown() {
        for line in [
            "set auth p",
            "config get requirepass",
            "config set hz 10",
            "hello 3",
        ] {
            assert_eq!(shown_as(line), line);
        }
    }
}
