//! The slots of a Redis Cluster: which one a key is in, and which master has it.

use crate::upstream::conversation::Value;
use crate::upstream::url::Endpoint;

/// Slots of a cluster.
pub const SLOTS: u16 = 16384;

/// The owner of a slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// The slot of a key: of what is between its first `{` and the next `}`, if that is anything.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        let len = memchr::memchr(b'}', rest)?;
        (len > 0).then(|| &rest[..len])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ CRC16[usize::from((crc >> 8) ^ u16::from(*byte))]
    })
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Which master has which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    masters: Vec<Endpoint>,
    /// For each slot, an index of `masters`.
    owners: Vec<u16>,
}

impl SlotMap {
    /// What `CLUSTER SLOTS` said. `asked`: whom, by the host that others may leave out.
    pub(super) fn of(answer: &Value, asked: &Endpoint) -> Option<Self> {
        let mut map = Self {
            masters: Vec::new(),
            owners: vec![NOBODY; usize::from(SLOTS)],
        };
        for range in answer.elements() {
            let [first, last, master, ..] = range.elements() else {
                return None;
            };
            let [host, port, ..] = master.elements() else {
                return None;
            };
            let host = host.text().unwrap_or_default();
            let master = endpoint(host, number(port)?, asked)?;
            let owner = map.index_of(master)?;
            let (first, last): (usize, usize) = (number(first)?, number(last)?);
            map.owners.get_mut(first..=last)?.fill(owner);
        }
        (!map.masters.is_empty()).then_some(map)
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        self.masters
            .get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// All masters that have slots, in the order of their first one.
    pub(super) fn masters(&self) -> &[Endpoint] {
        &self.masters
    }

    /// The same, with this slot at that master.
    pub(super) fn with(&self, slot: u16, master: Endpoint) -> Option<Self> {
        let mut map = self.clone();
        let owner = map.index_of(master)?;
        *map.owners.get_mut(usize::from(slot))? = owner;
        Some(map)
    }

    fn index_of(&mut self, master: Endpoint) -> Option<u16> {
        let found = self.masters.iter().position(|known| *known == master);
        let at = found.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(at).ok()
    }
}

/// An address as a node names it: without a host, it is that of the node that was asked.
fn endpoint(host: &[u8], port: u16, asked: &Endpoint) -> Option<Endpoint> {
    let host = match (std::str::from_utf8(host).ok()?, asked) {
        ("" | "?", Endpoint::Tcp { host, .. }) => host.clone(),
        ("" | "?", Endpoint::Unix(_)) => return None,
        (host, _) => host.to_owned(),
    };
    Some(Endpoint::Tcp { host, port })
}

fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    std::str::from_utf8(value.text()?).ok()?.parse().ok()
}

/// Where a request is to be sent instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirection {
    /// `-MOVED`: from now on.
    Moved(u16, Endpoint),
    /// `-ASK`: this once.
    Ask(Endpoint),
}

impl Redirection {
    /// The redirection that an error reply is, if it is one. `asked`: who replied it.
    pub(super) fn of(error: &[u8], asked: &Endpoint) -> Option<Self> {
        let is_moved = error.starts_with(b"-MOVED ");
        if !is_moved && !error.starts_with(b"-ASK ") {
            return None;
        }
        let text = std::str::from_utf8(error).ok()?.trim_end();
        let mut words = text.split(' ').skip(1);
        let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let target = endpoint(host.as_bytes(), port.parse().ok()?, asked)?;
        Some(if is_moved {
            Self::Moved(slot, target)
        } else {
            Self::Ask(target)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        let host = "10.0.0.1".to_owned();
        Endpoint::Tcp { host, port }
    }

    #[test]
    fn keys_are_in_the_slots_that_redis_says() {
        // CLUSTER KEYSLOT of redis-server 7.0.15.
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("123456789", 12739),
            ("{user1000}.following", 3443),
            ("user1000", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("{bar", 4015),
            ("foo{bar}{zap}", 5061),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_map_is_what_cluster_slots_says() {
        let text = |text: &str| Value::Text(text.into());
        let node = |host: &str, port: &str| {
            Value::Array(vec![text(host), text(port), text("id"), Value::Null])
        };
        let range = |first: &str, last: &str, node: Value| {
            Value::Array(vec![text(first), text(last), node])
        };
        let answer = Value::Array(vec![
            range("0", "100", node("10.0.0.1", "1")),
            range("101", "16383", node("", "2")),
        ]);
        let map = SlotMap::of(&answer, &at(9)).unwrap();
        assert_eq!(map.owner(100), Some(&at(1)));
        assert_eq!(map.owner(101), Some(&at(2)));
        assert_eq!(map.masters(), [at(1), at(2)]);
        let moved = map.with(0, at(3)).unwrap();
        assert_eq!(moved.owner(0), Some(&at(3)));
        assert_eq!(moved.owner(1), Some(&at(1)));
        let wrong = Value::Array(vec![range("0", "16384", node("h", "1"))]);
        assert_eq!(SlotMap::of(&wrong, &at(9)), None);
        assert_eq!(SlotMap::of(&Value::Array(Vec::new()), &at(9)), None);
    }

    #[test]
    fn redirections_are_understood() {
        let of = |text: &str| Redirection::of(text.as_bytes(), &at(9));
        let moved = of("-MOVED 7 10.0.0.1:5\r\n");
        assert_eq!(moved, Some(Redirection::Moved(7, at(5))));
        assert_eq!(of("-ASK 7 :5\r\n"), Some(Redirection::Ask(at(5))));
        let v6 = Endpoint::Tcp {
            host: "::1".to_owned(),
            port: 5,
        };
        assert_eq!(of("-ASK 7 ::1:5\r\n"), Some(Redirection::Ask(v6)));
        assert_eq!(of("-MOVED 16384 h:5\r\n"), None);
        assert_eq!(of("-ERR no\r\n"), None);
    }
}
