//! Redis's digest of the data: equal data, equal digest, on corral as on Redis.
//!
//! SHA-1 serves to compare, not to protect. `xor` makes the order of keys irrelevant, `mix` that
//! of what belongs together not.

use sha1::{Digest as _, Sha1};

use super::super::super::Context;
use super::super::Result;
use super::with_key;
use crate::resp::Request;
use crate::store::Entry;

/// `DEBUG DIGEST`: of all databases.
pub(super) fn of_all(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let mut digest = Digest::default();
    for db in 0..context.instance.store.databases() {
        if context.view.is_empty(db) {
            continue;
        }
        digest.mix(&u32::from(db).to_be_bytes());
        context.view.for_each(db, |entry| {
            let mut one = Digest::default();
            one.mix(entry.key());
            one.add_value(entry);
            digest.xor(&one.0);
        });
    }
    context.reply.simple(&digest.hex());
    Ok(())
}

/// `DEBUG DIGEST-VALUE key …`: of each value by itself; zeros for one that is not there.
pub(super) fn of_values(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    context.reply.array(request.len() - 2);
    for key in request.iter_from(2) {
        let place = context.place(key);
        let digest = with_key(context, place, |view| {
            let mut digest = Digest::default();
            if let Some(entry) = view.peek(place) {
                digest.add_value(&entry);
            }
            digest
        });
        context.reply.simple(&digest.hex());
    }
    Ok(())
}

/// A digest in the making.
#[derive(Default)]
struct Digest([u8; 20]);

impl Digest {
    /// Adds something whose place among the others does not matter.
    fn xor(&mut self, bytes: &[u8]) {
        for (own, other) in self.0.iter_mut().zip(Sha1::digest(bytes)) {
            *own ^= other;
        }
    }

    /// Adds something behind what was added before.
    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Adds a value: its type, its bytes, and whether it expires.
    fn add_value(&mut self, entry: &Entry<'_>) {
        self.mix(&TYPE_STRING.to_be_bytes());
        self.mix(entry.value());
        if entry.expires_at().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Redis's `OBJ_STRING`.
const TYPE_STRING: u32 = 0;
