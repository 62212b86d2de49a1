//! Tags in front of a Redis Cluster, where no script sees two slots.
//!
//! What is kept of a tag lies in the tag's slot, what is kept of a key's tags in the key's. So what
//! is one script elsewhere is done in steps, whose order keeps what matters:
//!
//! - A key is a member of a tag before it has a value with it: who invalidates finds it.
//! - Who invalidates writes down that it does, and removes then. Who stores looks that up once more
//!   after it has stored, and takes back what was invalidated since it began.
//!
//! Every number is that of an invalidation: of a member, of the last one before it got the tag. A
//! member that has no value, or one without the tag, is left over where somebody ended between two
//! steps; it is forgotten when it is looked at. A front that ends between storing and looking up,
//! while somebody invalidates, leaves a value that this one has missed.

use std::rc::Rc;

use futures_util::future::join_all;

use crate::command::error::TOO_MANY_TAGS;
use crate::command::tags::TAGS_PER_KEY_MAX;
use crate::front::keeping::ask_over;
use crate::front::waiting::{Waiting, failure};
use crate::front::wire::request_of;
use crate::upstream::conversation::Value;
use crate::upstream::shared::Link;
use crate::upstream::topology::slot_of;

use super::{NAMES, SEQ, eval};

/// A script of this room.
macro_rules! script {
    ($name:literal) => {
        include_str!(concat!("cluster/", $name, ".lua")).as_bytes()
    };
}

/// An error reply, to be passed on.
type Failed = Vec<u8>;
type Done<T> = Result<T, Failed>;

/// Keys looked at at once.
const KEYS_AT_ONCE: usize = 256;
/// Keys of a tag that `TAG.MEMBERS` and `TAG.CARD` look at, one by one, and hold meanwhile.
const MEMBERS_MAX: u64 = 100_000;
/// How often a key enters a tag again that is invalidated meanwhile.
const ENTRIES_MAX: usize = 16;

/// What is kept of a tag: `corral:WHAT:{TAG}`.
pub(super) fn of_tag(what: &str, tag: &[u8]) -> Vec<u8> {
    let mut name = format!("corral:{what}:{{").into_bytes();
    if tag.is_empty() {
        // Nothing between the braces would be no slot of its own; and no tag is written so.
        name.push(b'%');
    }
    for byte in tag {
        match byte {
            b'}' => name.extend_from_slice(b"%7D"),
            b'%' => name.extend_from_slice(b"%25"),
            byte => name.push(*byte),
        }
    }
    name.push(b'}');
    name
}

/// What is kept of a key's tags, in the key's slot.
pub(super) fn of_key(key: &[u8]) -> Vec<u8> {
    let slot = slot_of(key);
    let braced = [&b"corral:of:{"[..], key, b"}"].concat();
    let plain = [&b"corral:of:"[..], key].concat();
    // Of what is between the first braces, or of all of it.
    if slot_of(&braced) == slot {
        return braced;
    }
    if slot_of(&plain) == slot {
        return plain;
    }
    // There is a `}` and no `{` before it: a name is looked for.
    let numbered = |number: u32| [&plain[..], b":", number.to_string().as_bytes()].concat();
    let mut names = (0..u32::MAX).map(numbered);
    let is_there = |name: &Vec<u8>| slot_of(name) == slot;
    names.find(is_there).unwrap_or(plain)
}

/// Asks over one connection, as one client would.
pub(in crate::front) struct Steps(pub(in crate::front) Rc<Link<Waiting>>);

impl Steps {
    async fn ask(&self, request: &[u8]) -> Done<Vec<u8>> {
        let reply = ask_over(&self.0, 0, request).await;
        match reply {
            Some(reply) if reply.first() != Some(&b'-') => Ok(reply),
            Some(error) => Err(error),
            None => Err(failure("connection lost")),
        }
    }

    async fn run(&self, script: &[u8], keys: &[&[u8]], arguments: &[&[u8]]) -> Done<Value> {
        let reply = self.ask(&eval(script, keys, arguments)).await?;
        Value::of(&reply).ok_or_else(not_understood)
    }

    async fn number(&self, script: &[u8], keys: &[&[u8]], arguments: &[&[u8]]) -> Done<u64> {
        let value = self.run(script, keys, arguments).await?;
        number_of(&value).ok_or_else(not_understood)
    }

    /// Makes a key a member of tags: the number that each goes by.
    async fn enter(&self, key: &[u8], tags: &[&[u8]]) -> Done<Vec<u64>> {
        let entered = join_all(tags.iter().map(async |tag| {
            let (members, gone) = (of_tag("members", tag), of_tag("gone", tag));
            let keys = [&members[..], &gone[..]];
            let number = self.number(script!("enter"), &keys, &[key]).await?;
            self.ask(&request_of(&[b"SADD", NAMES, tag])).await?;
            Ok(number)
        }));
        entered.await.into_iter().collect()
    }

    /// When each of these tags was last invalidated.
    async fn gone(&self, tags: &[&[u8]]) -> Done<Vec<u64>> {
        let asked = join_all(tags.iter().map(async |tag| {
            let reply = self
                .ask(&request_of(&[b"GET", &of_tag("gone", tag)]))
                .await?;
            let value = Value::of(&reply).ok_or_else(not_understood)?;
            Ok(number_of(&value).unwrap_or(0))
        }));
        asked.await.into_iter().collect()
    }

    /// `SET`: the reply.
    pub(in crate::front) async fn set(
        &self,
        key: &[u8],
        words: &[&[u8]],
        tags: &[&[u8]],
        since: Option<u64>,
    ) -> Done<Vec<u8>> {
        let numbers = self.enter(key, tags).await?;
        let record = of_key(key);
        let count = tags.len().to_string();
        let digits: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let mut arguments = vec![count.as_bytes()];
        for (tag, number) in tags.iter().zip(&digits) {
            arguments.extend([tag, number.as_bytes()]);
        }
        arguments.extend(words);
        let put = eval(script!("put"), &[key, &record], &arguments);
        let put = self.ask(&put).await?;
        let (is_stored, reply) = match put.strip_prefix(b"*2\r\n:1\r\n") {
            Some(reply) => (true, reply),
            None => (
                false,
                put.strip_prefix(b"*2\r\n:0\r\n")
                    .ok_or_else(not_understood)?,
            ),
        };
        if is_stored {
            // Once more, as who looked at it in between may have forgotten it.
            let gone = self.enter(key, tags).await?;
            for (at, tag) in tags.iter().enumerate() {
                let is_late = since.is_some_and(|since| gone[at] > since);
                if gone[at] > numbers[at] || is_late {
                    let arguments = [tag, digits[at].as_bytes()];
                    self.run(script!("undo"), &[key, &record], &arguments)
                        .await?;
                }
            }
        }
        Ok(reply.to_vec())
    }

    /// `TAG.ADD`
    pub(in crate::front) async fn add(&self, key: &[u8], tags: &[&[u8]]) -> Done<u64> {
        let mut numbers = self.enter(key, tags).await?;
        let most = TAGS_PER_KEY_MAX.to_string();
        let digits: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let mut arguments = vec![most.as_bytes(), TOO_MANY_TAGS.as_bytes()];
        for (tag, number) in tags.iter().zip(&digits) {
            arguments.extend([tag, number.as_bytes()]);
        }
        let record = of_key(key);
        let added = self
            .number(script!("add"), &[key, &record], &arguments)
            .await?;
        // Who invalidated meanwhile may have found a key without the tag, and made it leave.
        for _ in 0..ENTRIES_MAX {
            let gone = self.gone(tags).await?;
            if added == 0 || gone == numbers {
                break;
            }
            numbers = self.enter(key, tags).await?;
        }
        Ok(added)
    }

    /// `TAG.REM`
    pub(in crate::front) async fn remove(&self, key: &[u8], tags: &[&[u8]]) -> Done<u64> {
        let removed = self.run(script!("rem"), &[key, &of_key(key)], tags).await?;
        let [count, removed @ ..] = removed.elements() else {
            return Err(not_understood());
        };
        for pair in removed.chunks_exact(2) {
            if let (Some(tag), Some(number)) = (pair[0].text(), pair[1].text()) {
                self.leave(tag, number, &[key]).await?;
            }
        }
        number_of(count).ok_or_else(not_understood)
    }

    /// The keys of a tag, of which there may be so many.
    pub(in crate::front) async fn members(&self, tag: &[u8]) -> Done<Vec<Vec<u8>>> {
        let members = of_tag("members", tag);
        let count = Value::of(&self.ask(&request_of(&[b"ZCARD", &members])).await?);
        let count = count.as_ref().and_then(number_of).unwrap_or(0);
        if count > MEMBERS_MAX {
            let refused =
                format!("-ERR the tag has {count} keys, of which {MEMBERS_MAX} are looked at\r\n");
            return Err(refused.into_bytes());
        }
        let last = (MEMBERS_MAX - 1).to_string();
        let range = request_of(&[b"ZRANGE", &members, b"0", last.as_bytes()]);
        let keys = Value::of(&self.ask(&range).await?).ok_or_else(not_understood)?;
        let keys: Vec<&[u8]> = keys.elements().iter().filter_map(Value::text).collect();
        let mut found = Vec::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let has = keys.iter().map(|key| self.has(key, tag));
            for (key, has) in keys.iter().zip(join_all(has).await) {
                if has? {
                    found.push(key.to_vec());
                }
            }
        }
        Ok(found)
    }

    async fn has(&self, key: &[u8], tag: &[u8]) -> Done<bool> {
        let record = of_key(key);
        let has = self.number(script!("has"), &[key, &record], &[tag]).await?;
        Ok(has == 1)
    }

    /// Keys leave a tag that got it by this number at the latest.
    async fn leave(&self, tag: &[u8], number: &[u8], keys: &[&[u8]]) -> Done<()> {
        let members = of_tag("members", tag);
        let mut arguments = vec![number];
        arguments.extend(keys);
        if self
            .number(script!("leave"), &[&members], &arguments)
            .await?
            == 0
        {
            self.ask(&request_of(&[b"SREM", NAMES, tag])).await?;
            // Somebody may have come in between.
            if self.ask(&request_of(&[b"EXISTS", &members])).await? == b":1\r\n" {
                self.ask(&request_of(&[b"SADD", NAMES, tag])).await?;
            }
        }
        Ok(())
    }

    /// Forgets a key that does not have a tag any more.
    async fn forget(&self, tag: &[u8], number: &[u8], key: &[u8]) -> Done<()> {
        self.leave(tag, number, &[key]).await?;
        if self.has(key, tag).await? {
            // It got it in between. Who invalidated in between did not find it.
            let gone = self.enter(key, &[tag]).await?;
            let gone = gone.first().map_or_else(String::new, u64::to_string);
            let record = of_key(key);
            let arguments = [tag, gone.as_bytes()];
            self.run(script!("purge"), &[key, &record], &arguments)
                .await?;
        }
        Ok(())
    }

    /// Removes the keys of tags: how many there were.
    pub(in crate::front) async fn invalidate(&self, tags: &[Box<[u8]>]) -> Done<u64> {
        let seq = self.number(script!("bump"), &[SEQ], &[b"0"]).await?;
        let digits = seq.to_string();
        let mut removed = 0;
        for tag in tags {
            let (members, gone) = (of_tag("members", tag), of_tag("gone", tag));
            let keys = [&members[..], &gone[..]];
            let gone = self
                .number(script!("close"), &keys, &[digits.as_bytes()])
                .await?;
            if gone > seq {
                let least = gone.to_string();
                self.number(script!("bump"), &[SEQ], &[least.as_bytes()])
                    .await?;
            }
            removed += self.purge(tags, tag, &members, gone).await?;
        }
        Ok(removed)
    }

    async fn purge(&self, tags: &[Box<[u8]>], tag: &[u8], members: &[u8], gone: u64) -> Done<u64> {
        let (below, number) = (format!("({gone}"), gone.to_string());
        let most = KEYS_AT_ONCE.to_string();
        let range: [&[u8]; 7] = [
            b"ZRANGEBYSCORE",
            members,
            b"-inf",
            below.as_bytes(),
            b"LIMIT",
            b"0",
            most.as_bytes(),
        ];
        let range = request_of(&range);
        let mut removed = 0;
        loop {
            let keys = Value::of(&self.ask(&range).await?).ok_or_else(not_understood)?;
            let keys: Vec<&[u8]> = keys.elements().iter().filter_map(Value::text).collect();
            if keys.is_empty() {
                return Ok(removed);
            }
            let purged = keys.iter().map(async |key| {
                let arguments = [tag, number.as_bytes()];
                self.run(script!("purge"), &[key, &of_key(key)], &arguments)
                    .await
            });
            for (key, purged) in keys.iter().zip(join_all(purged).await) {
                let purged = purged?;
                let [was_there, others @ ..] = purged.elements() else {
                    return Err(not_understood());
                };
                let mut carried = 0;
                for pair in others.chunks_exact(2) {
                    let (Some(other), Some(number)) = (pair[0].text(), pair[1].text()) else {
                        continue;
                    };
                    carried += u64::from(tags.iter().any(|tag| **tag == *other));
                    if other != tag {
                        self.leave(other, number, &[key]).await?;
                    }
                }
                // One that carries several of the tags counts for each.
                removed += carried * number_of(was_there).unwrap_or(0);
            }
            let last = (gone - 1).to_string();
            self.leave(tag, last.as_bytes(), &keys).await?;
        }
    }

    /// Looks at some keys of some tags, and forgets those that are not there any more.
    pub(in crate::front) async fn sweep(&self, tags: &[u8], keys: &[u8]) -> Done<()> {
        let names = self
            .ask(&request_of(&[b"SRANDMEMBER", NAMES, tags]))
            .await?;
        let names = Value::of(&names).ok_or_else(not_understood)?;
        for tag in names.elements().iter().filter_map(Value::text) {
            let members = of_tag("members", tag);
            let random = [b"ZRANDMEMBER", &members[..], keys, b"WITHSCORES"];
            let random = Value::of(&self.ask(&request_of(&random)).await?);
            let random = random.ok_or_else(not_understood)?;
            for pair in random.elements().chunks_exact(2) {
                if let (Some(key), Some(number)) = (pair[0].text(), pair[1].text())
                    && !self.has(key, tag).await?
                {
                    self.forget(tag, number, key).await?;
                }
            }
        }
        Ok(())
    }
}

/// What goes upstream instead of a request about tags that needs no more than one step.
pub(super) fn in_one_step(name: &str, key: &[u8]) -> Option<Vec<u8>> {
    (name == "tag.of").then(|| eval(script!("of"), &[key, &of_key(key)], &[]))
}

/// A command that overwrites or removes its one key, which leaves its tags by it.
pub(super) fn overwriting(key: &[u8], if_absent: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut arguments = vec![if_absent];
    arguments.extend(words);
    eval(script!("overwrite"), &[key, &of_key(key)], &arguments)
}

fn number_of(value: &Value) -> Option<u64> {
    std::str::from_utf8(value.text()?).ok()?.parse().ok()
}

fn not_understood() -> Failed {
    failure("did not answer as it should")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_key_is_in_its_slot() {
        for key in [
            &b"key"[..],
            b"",
            b"{user}:1",
            b"a{user}b{c}",
            b"{}x",
            b"}x",
            b"a}b{c",
            b"a}b{c}d",
            b"{",
            b"}",
            b"{{x}}",
        ] {
            let name = of_key(key);
            assert_eq!(slot_of(&name), slot_of(key), "{}", key.escape_ascii());
            assert!(name.starts_with(b"corral:of:"));
        }
        assert_ne!(of_key(b"a}"), of_key(b"a"));
    }

    #[test]
    fn what_is_kept_of_a_tag_is_in_one_slot() {
        for tag in [&b"t"[..], b"", b"{a}b", b"}", b"%7D", b"{"] {
            let (members, gone) = (of_tag("members", tag), of_tag("gone", tag));
            assert_eq!(slot_of(&members), slot_of(&gone), "{}", tag.escape_ascii());
        }
        assert_ne!(of_tag("gone", b"}"), of_tag("gone", b"%7D"));
    }
}
