//! Which rule a key has, and what its stars caught.
//!
//! The first rule that matches is the key's. A star catches the fewest bytes that let the rest of
//! the pattern match, from the left, and the last star takes what is left: `a:*:*` catches `1` and
//! `2:3` of `a:1:2:3`. This is on the way of every request, so a pattern is taken apart beforehand:
//! what stands before the first star is compared first, and the others are found one after the
//! other, in time that is linear in the key and without an allocation.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem::Finder;
use smallvec::SmallVec;

use crate::config::rules::pattern::{Token, tokens};
use crate::config::rules::template::Place;
use crate::config::rules::{RuleSpec, Rules};
use crate::origin::Origin;

/// What the stars of a pattern caught of a key, the first star's first: `{1}` is at 0.
pub type Captures<'k> = SmallVec<[&'k [u8]; 4]>;

/// All rules, in order.
#[derive(Default)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    origins: Vec<Arc<Origin>>,
}

/// One rule, ready for use.
pub struct Rule {
    /// What it says.
    pub spec: RuleSpec,
    /// Where missing values come from.
    pub origin: Option<Arc<Origin>>,
    /// Which it is, counted from 0.
    pub index: usize,
    pattern: Pattern,
}

impl RuleSet {
    /// The rules of a file, with their origins.
    ///
    /// # Errors
    /// What an origin needs is not there.
    pub fn build(rules: &Rules) -> Result<Self, String> {
        Self::build_after(rules, &Self::default())
    }

    /// The same in the place of others, whose origins go on where nothing about them has changed.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub fn build_after(rules: &Rules, before: &Self) -> Result<Self, String> {
        let mut origins = Vec::new();
        let mut by_name = HashMap::new();
        for spec in &rules.origins {
            let of_name = |origin: &&Arc<Origin>| origin.spec().name == spec.name;
            let known = before.origins.iter().find(of_name);
            let origin = Origin::build_after(spec, known.map(|known| &**known))
                .map_err(|why| format!("origin {:?}: {why}", spec.name))?;
            by_name.insert(spec.name.as_str(), Arc::clone(&origin));
            origins.push(origin);
        }
        let rule = |(index, spec): (usize, &RuleSpec)| {
            let origin = match spec.origin.as_deref() {
                None => None,
                Some(name) => {
                    let known = by_name.get(name).cloned();
                    Some(known.ok_or_else(|| format!("there is no origin {name:?}"))?)
                }
            };
            Ok(Arc::new(Rule {
                pattern: Pattern::new(spec.pattern.as_bytes()),
                spec: spec.clone(),
                origin,
                index,
            }))
        };
        Ok(Self {
            rules: rules
                .rules
                .iter()
                .enumerate()
                .map(rule)
                .collect::<Result<_, String>>()?,
            origins,
        })
    }

    /// The rule of a key.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.pattern.matches(key))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether these are the rules and origins that the file has.
    #[must_use]
    pub fn is_as(&self, file: &Rules) -> bool {
        let rules = self.rules.iter().map(|rule| &rule.spec);
        let origins = self.origins.iter().map(|origin| origin.spec());
        rules.eq(&file.rules) && origins.eq(&file.origins)
    }

    /// All of them, in order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// All origins, in the order of the file.
    #[must_use]
    pub fn origins(&self) -> &[Arc<Origin>] {
        &self.origins
    }
}

#[cfg(test)]
impl RuleSet {
    /// The same with this origin in the place of all others.
    pub(super) fn with_origin(mut self, origin: &Arc<Origin>) -> Self {
        for rule in &mut self.rules {
            let rule = Arc::get_mut(rule).expect("nobody else has it yet");
            rule.origin = rule.origin.is_some().then(|| Arc::clone(origin));
        }
        self
    }
}

impl Rule {
    /// Whether it speaks of this key.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.pattern.matches(key)
    }

    /// What the stars caught of a key that it matches; of another, nothing.
    #[must_use]
    pub fn captures<'k>(&self, key: &'k [u8]) -> Captures<'k> {
        self.pattern.captures(key)
    }

    /// The tags of a loaded value of this key.
    #[must_use]
    pub fn tags_of(&self, key: &[u8]) -> Vec<Vec<u8>> {
        if self.spec.tags.is_empty() {
            return Vec::new();
        }
        let captures = self.captures(key);
        let fill = |place| match place {
            Place::Key => key,
            Place::Star(number) => {
                let index = usize::from(number).saturating_sub(1);
                captures.get(index).copied().unwrap_or_default()
            }
            Place::Value => b"",
        };
        let tags = self.spec.tags.iter();
        tags.map(|template| template.fill(fill)).collect()
    }
}

/// A glob, as what stands between its stars.
pub struct Pattern {
    /// What a key must begin with.
    head: Segment,
    /// What follows each star, in order. Empty: there is no star, the head is all.
    behind: Vec<Segment>,
}

/// Tokens without a star: a text where they are nothing but bytes.
enum Segment {
    /// Its bytes, and the means to find them.
    Text(Box<[u8]>, Box<Finder<'static>>),
    Tokens(Box<[Token]>),
}

impl Pattern {
    /// A glob, taken apart.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let tokens = tokens(pattern);
        let mut segments = tokens
            .split(|token| *token == Token::Star)
            .map(Segment::new);
        Self {
            // A split has one part at least.
            head: segments.next().unwrap_or_else(|| Segment::new(&[])),
            behind: segments.collect(),
        }
    }

    /// Whether a text fits.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.run(key, |_| {})
    }

    /// What the stars caught of a text that fits; of another, nothing.
    #[must_use]
    pub fn captures<'k>(&self, key: &'k [u8]) -> Captures<'k> {
        let mut captures = Captures::new();
        if !self.run(key, |caught| captures.push(caught)) {
            captures.clear();
        }
        captures
    }

    /// Whether it matches. What stars catch is given away as it is found, also of a key that turns
    /// out not to match.
    fn run<'k>(&self, key: &'k [u8], mut caught: impl FnMut(&'k [u8])) -> bool {
        if !self.head.is_prefix_of(key) {
            return false;
        }
        let mut rest = &key[self.head.len()..];
        let Some((last, others)) = self.behind.split_last() else {
            return rest.is_empty();
        };
        for segment in others {
            let Some(at) = segment.find(rest) else {
                return false;
            };
            caught(&rest[..at]);
            rest = &rest[at + segment.len()..];
        }
        let Some(at) = rest.len().checked_sub(last.len()) else {
            return false;
        };
        caught(&rest[..at]);
        last.is_prefix_of(&rest[at..])
    }
}

impl Segment {
    fn new(tokens: &[Token]) -> Self {
        let byte = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::Any | Token::Class(_) | Token::Star => None,
        };
        let text: Option<Box<[u8]>> = tokens.iter().map(byte).collect();
        match text {
            Some(text) => {
                let finder = Box::new(Finder::new(&text).into_owned());
                Self::Text(text, finder)
            }
            None => Self::Tokens(tokens.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text, _) => text.len(),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn is_prefix_of(&self, text: &[u8]) -> bool {
        match self {
            Self::Text(own, _) => text.starts_with(own),
            Self::Tokens(tokens) => {
                let is_as = |(token, byte): (&Token, &u8)| match token {
                    Token::Any => true,
                    Token::Byte(own) => own == byte,
                    Token::Class(class) => class[usize::from(*byte)],
                    // There is none between stars.
                    Token::Star => false,
                };
                text.len() >= tokens.len() && tokens.iter().zip(text).all(is_as)
            }
        }
    }

    /// Where it first stands.
    fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Text(_, finder) => finder.find(text),
            Self::Tokens(_) => (0..=text.len()).find(|at| self.is_prefix_of(&text[*at..])),
        }
    }
}

#[cfg(test)]
mod tests;
