//! The table of settings: what one row says, and how it is looked up.
//!
//! A row of `declare_settings!` declares a field of [`Config`](super::Config) and
//! everything that is derived from it: flag, environment variable, TOML key, CONFIG GET, SET and
//! REWRITE, `--help` and docs/CONFIG.md.

use std::fmt;

use super::kind::{Kind, Unit, ValueError};
use super::value::print_memory;
use super::{Config, FIXED, SETTINGS};

/// One setting and all that is known about it.
#[derive(Debug)]
pub struct Setting {
    /// The name, the same in every place.
    pub name: &'static str,
    /// Where help and documentation list it.
    pub group: Group,
    /// The form of its values, and what may be done with it.
    pub shape: Shape,
    pub(super) doc: &'static str,
    pub(super) access: Access,
}

/// The form of a setting's values, and what may be done with it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The form of its values.
    pub kind: Kind,
    /// An older name that Redis knows it by.
    pub alias: Option<&'static str>,
    /// Whether CONFIG SET may change it while the server runs.
    pub is_mutable: bool,
    /// Whether its value is kept out of logs, the slow log and MONITOR.
    pub is_sensitive: bool,
    /// Whether `-h` lists it, beside `--help`.
    pub(super) is_essential: bool,
    /// The default in words, where it depends on the machine.
    pub(super) default_words: Option<&'static str>,
}

/// The chapters of help and documentation, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Where clients connect.
    Network,
    /// Encrypted connections.
    Tls,
    /// What clients may use.
    Clients,
    /// How much is kept, and what leaves first.
    Memory,
    /// How values are laid out.
    Encoding,
    /// Being in front of another server.
    Front,
    /// Watching and operating.
    Operation,
    /// Settings of Redis that have one value here.
    Fixed,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Network,
        Self::Tls,
        Self::Clients,
        Self::Memory,
        Self::Encoding,
        Self::Front,
        Self::Operation,
        Self::Fixed,
    ];

    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Tls => "TLS",
            Self::Clients => "Clients",
            Self::Memory => "Memory",
            Self::Encoding => "Encoding of values",
            Self::Front => "In front of another server",
            Self::Operation => "Operation",
            Self::Fixed => "Fixed",
        }
    }
}

/// How a row reaches its value.
pub(super) enum Access {
    /// A field of [`Config`].
    Field {
        print: fn(&Config, Kind) -> String,
        assign: fn(&mut Config, Kind, &str) -> Result<(), ValueError>,
    },
    /// The one value there is.
    Fixed(&'static str),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { .. } => f.write_str("Field"),
            Self::Fixed(value) => write!(f, "Fixed({value:?})"),
        }
    }
}

impl Setting {
    /// What it is for: a sentence or two.
    #[must_use]
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }

    /// The default: a value, or words where it depends on the machine.
    #[must_use]
    pub fn default_text(&self) -> String {
        let value = self.value(&Config::default());
        if let Some(words) = self.shape.default_words {
            words.to_owned()
        } else if let (Kind::Memory { .. }, Ok(bytes)) = (self.shape.kind, value.parse()) {
            print_memory(bytes)
        } else {
            value
        }
    }

    /// The value it has, as CONFIG GET prints it.
    #[must_use]
    pub fn value(&self, config: &Config) -> String {
        match self.access {
            Access::Field { print, .. } => print(config, self.shape.kind),
            Access::Fixed(value) => value.to_owned(),
        }
    }

    /// Whether there is one value only.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self.access, Access::Fixed(_))
    }

    /// The environment variable: `CORRAL_` and the name in capitals.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// Gives the field the value that `text` stands for; on an error nothing is changed.
    pub(super) fn assign(&self, config: &mut Config, text: &str) -> Result<(), ValueError> {
        match self.access {
            Access::Field { assign, .. } => assign(config, self.shape.kind, text),
            Access::Fixed(value) if self.shape.kind.canonical(text)? == value => Ok(()),
            Access::Fixed(value) => {
                let why = self.doc();
                Err(format!("not supported by corral, which only has '{value}': {why}").into())
            }
        }
    }
}

pub(super) fn variable(name: &str) -> String {
    format!("CORRAL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Every setting: those with a field first, then the fixed ones.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(FIXED)
}

/// The setting with this name or alias, in any case, and the name it was found by.
#[must_use]
pub fn find(name: &str) -> Option<(&'static Setting, &'static str)> {
    settings().find_map(|setting| {
        let mut names = [Some(setting.name), setting.shape.alias]
            .into_iter()
            .flatten();
        names
            .find(|known| known.eq_ignore_ascii_case(name))
            .map(|known| (setting, known))
    })
}

/// The word of `words` that `word` was probably meant to be.
pub(super) fn closest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const SIMILARITY_MIN: f64 = 0.8;
    let word = word.to_ascii_lowercase().replace('_', "-");
    words
        .map(|known| (strsim::jaro_winkler(&word, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// Declares [`Config`](super::Config), its defaults and the table of its settings, from one row
/// each: documentation, name, field and type, default, shape.
macro_rules! declare_settings {
    ($( $group:ident { $(
        $(#[doc = $doc:literal])+
        $name:literal => $field:ident: $type:ty = $default:expr, $shape:expr;
    )+ } )+) => {
        /// Every setting, read and checked. Only [`Config::default`], the readers of the command
        /// line and [`Config::set`] make one, so that nothing is checked again where it is used.
        #[derive(Clone, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
            /// The file it was read from.
            pub(super) file: Option<PathBuf>,
            /// The rules and origins of that file, as it was then.
            pub(super) rules: Arc<Rules>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($( $field: $default, )+)+ file: None, rules: Arc::default() }
            }
        }

        /// Every setting that has a field, grouped.
        pub static SETTINGS: &[Setting] = &[$($(
            Setting {
                name: $name,
                group: Group::$group,
                shape: $shape,
                doc: concat!($($doc),+),
                access: Access::Field {
                    print: |config, kind| config.$field.print(kind),
                    assign: |config, kind, text| config.$field.assign(text, kind),
                },
            },
        )+)+];
    };
}
pub(super) use declare_settings;

/// A row without a field.
pub(super) const fn fixed(
    name: &'static str,
    value: &'static str,
    shape: Shape,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        group: Group::Fixed,
        shape,
        doc,
        access: Access::Fixed(value),
    }
}

/// The shape of a kind, mutable and without anything special.
pub(super) const fn of(kind: Kind) -> Shape {
    Shape {
        kind,
        alias: None,
        is_mutable: true,
        is_sensitive: false,
        is_essential: false,
        default_words: None,
    }
}

pub(super) const fn yes_no() -> Shape {
    of(Kind::YesNo)
}

pub(super) const fn number(min: i64, max: i64) -> Shape {
    of(Kind::Integer {
        min,
        max,
        unit: Unit::None,
    })
}

pub(super) const fn seconds(min: i64, max: i64) -> Shape {
    of(Kind::Integer {
        min,
        max,
        unit: Unit::Seconds,
    })
}

pub(super) const fn milliseconds(min: i64, max: i64) -> Shape {
    of(Kind::Integer {
        min,
        max,
        unit: Unit::Milliseconds,
    })
}

pub(super) const fn microseconds(min: i64, max: i64) -> Shape {
    of(Kind::Integer {
        min,
        max,
        unit: Unit::Microseconds,
    })
}

pub(super) const fn memory(min: u64, max: u64) -> Shape {
    of(Kind::Memory { min, max })
}

impl Shape {
    /// Known by an older name too.
    pub(super) const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Not to be changed while the server runs.
    pub(super) const fn immutable(mut self) -> Self {
        self.is_mutable = false;
        self
    }

    /// Not to be seen in logs.
    pub(super) const fn sensitive(mut self) -> Self {
        self.is_sensitive = true;
        self
    }

    /// Listed by `-h`.
    pub(super) const fn essential(mut self) -> Self {
        self.is_essential = true;
        self
    }

    /// The default in words.
    pub(super) const fn default_is(mut self, words: &'static str) -> Self {
        self.default_words = Some(words);
        self
    }
}
