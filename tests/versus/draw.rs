//! Draws commands at random, most of them valid.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// A command and its arguments.
pub(crate) type Command = Vec<Vec<u8>>;

/// Draws commands.
pub(crate) struct Draw {
    pub(crate) random: StdRng,
    /// What DUMP replied last.
    pub(crate) dumps: VecDeque<Vec<u8>>,
}

/// What a word of a template stands for; any other is itself.
///
/// `K` a key, `V` a value, `I` an integer, `O` an offset, `F` a float, `T` a time to live, `L` one
/// of RESTORE, which in Redis wraps around beyond 64 bits, `A` a moment long ago or far away, `D` a
/// database, `B` a bit, `G` a glob, `P` a payload of DUMP, `S` the options of SET, `X` those of
/// GETEX, `E` those of EXPIRE, `U` operations of BITFIELD, `N` its reads; `x*` is one to four of
/// `x`.
const TEMPLATES: &[(u32, &str)] = &[
    (12, "SET K V S"),
    (8, "GET K"),
    (2, "GETSET K V"),
    (2, "GETDEL K"),
    (4, "GETEX K X"),
    (3, "MGET K*"),
    (3, "MSET K V K V"),
    (2, "MSETNX K V K V"),
    (2, "SETNX K V"),
    (2, "SETEX K T V"),
    (2, "PSETEX K T V"),
    (5, "APPEND K V"),
    (3, "STRLEN K"),
    (4, "GETRANGE K I I"),
    (1, "SUBSTR K I I"),
    (4, "SETRANGE K O V"),
    (4, "INCR K"),
    (2, "DECR K"),
    (4, "INCRBY K I"),
    (2, "DECRBY K I"),
    (6, "INCRBYFLOAT K F"),
    (1, "LCS K K"),
    (1, "LCS K K LEN"),
    (1, "LCS K K IDX MINMATCHLEN I WITHMATCHLEN"),
    (4, "SETBIT K O B"),
    (2, "GETBIT K O"),
    (2, "BITCOUNT K"),
    (2, "BITCOUNT K I I"),
    (2, "BITCOUNT K I I BIT"),
    (2, "BITPOS K B"),
    (2, "BITPOS K B I I"),
    (2, "BITPOS K B I I BIT"),
    (1, "BITPOS K B I I BYTE"),
    (1, "BITPOS K B I"),
    (2, "BITOP AND K K*"),
    (2, "BITOP OR K K*"),
    (2, "BITOP XOR K K*"),
    (2, "BITOP NOT K K"),
    (6, "BITFIELD K U"),
    (2, "BITFIELD_RO K N"),
    (3, "EXISTS K*"),
    (3, "DEL K*"),
    (2, "UNLINK K*"),
    (1, "TOUCH K*"),
    (2, "TYPE K"),
    (3, "RENAME K K"),
    (3, "RENAMENX K K"),
    (3, "COPY K K"),
    (2, "COPY K K REPLACE"),
    (2, "COPY K K DB D REPLACE"),
    (2, "MOVE K D"),
    (4, "EXPIRE K T E"),
    (3, "PEXPIRE K T E"),
    (2, "EXPIREAT K A E"),
    (2, "PEXPIREAT K A E"),
    (3, "PERSIST K"),
    (3, "TTL K"),
    (2, "PTTL K"),
    (2, "EXPIRETIME K"),
    (2, "PEXPIRETIME K"),
    (3, "DUMP K"),
    (3, "RESTORE K 0 P"),
    (2, "RESTORE K L P REPLACE"),
    (1, "RESTORE K A P ABSTTL REPLACE"),
    (2, "OBJECT ENCODING K"),
    (1, "KEYS G"),
    (2, "SCAN 0 COUNT 1000 MATCH G"),
    (1, "SCAN 0 COUNT 1000 TYPE string"),
    (1, "RANDOMKEY"),
    (2, "DBSIZE"),
    (4, "SELECT D"),
    (1, "SWAPDB D D"),
    (1, "PING V"),
    (1, "ECHO V"),
    (3, "WATCH K*"),
    (1, "UNWATCH"),
    (6, "MULTI"),
    (9, "EXEC"),
    (1, "DISCARD"),
    (1, "V V"),
];

/// Drawn more seldom than the least of the templates, since nothing is left behind them.
const RARE: &[&str] = &["FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC", "RESET"];

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            dumps: VecDeque::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices.choose(&mut self.random).expect("there are choices")
    }

    pub(crate) fn command(&mut self) -> Command {
        let template = if self.random.random_ratio(1, 400) {
            self.one(RARE)
        } else {
            let drawn = TEMPLATES.choose_weighted(&mut self.random, |(weight, _)| *weight);
            drawn.expect("weights").1
        };
        let mut command = Command::new();
        for word in template.split(' ') {
            self.word(word, &mut command);
        }
        if self.chance(5) {
            self.spoil(&mut command);
        }
        if self.chance(10) {
            for word in &mut command {
                if self.chance(50) {
                    word.make_ascii_lowercase();
                }
            }
        }
        command
    }

    /// Makes something wrong of it, perhaps.
    fn spoil(&mut self, command: &mut Command) {
        let at = self.random.random_range(0..command.len());
        match self.random.random_range(0..4) {
            0 => command.truncate(at.max(1)),
            1 => self.word("I", command),
            2 if at > 0 => {
                // No time may pass while the test runs, nor wrap around in RESTORE.
                command[at] = if command.iter().any(|word| is_about_time(word)) {
                    self.one(&["0", "-1", "1.5", "abc", ""]).into()
                } else {
                    self.integer()
                };
            }
            _ => {
                let option = ["NX", "EX", "GET", "BIT", "LEN", "DB", "COUNT", ""];
                let option = self.one(&option);
                command.push(option.into());
            }
        }
    }

    fn word(&mut self, word: &str, command: &mut Command) {
        if let Some(word) = word.strip_suffix('*') {
            for _ in 0..self.random.random_range(1..=4) {
                self.word(word, command);
            }
            return;
        }
        let drawn = match word {
            "K" => format!("k{}", self.random.random_range(0..12)).into_bytes(),
            "V" => self.value(),
            "I" => self.integer(),
            "O" => match self.random.random_range(0..12) {
                0 => self.integer(),
                1 => self.random.random_range(0..1500).to_string().into(),
                _ => self.random.random_range(0..90).to_string().into(),
            },
            "F" => self.float(),
            "T" => self.time_to_live(),
            "L" => self.one(&["0", "-1", "abc", "1000000", "2000000"]).into(),
            "A" => self.moment(),
            "D" => self
                .one(&["0", "1", "2", "3", "0", "1", "2", "16", "-1"])
                .into(),
            "B" => self.one(&["0", "1", "0", "1", "0", "1", "2"]).into(),
            "G" => self
                .one(&["*", "k?", "k1*", "k[2-5]", "k[^1]", "", "k\\1"])
                .into(),
            "P" => self.payload(),
            "S" => return self.set_options(command),
            "X" => return self.getex_options(command),
            "E" => {
                let options = ["", "", "NX", "XX", "GT", "LT", "XX GT", "XX LT", "NX XX"];
                return push_words(command, self.one(&options));
            }
            "U" => return self.bitfield(command, &["GET", "SET", "INCRBY", "OVERFLOW"]),
            "N" => return self.bitfield(command, &["GET"]),
            other => other.into(),
        };
        command.push(drawn);
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0..3 => self.integer(),
            3 => self.float(),
            4 => {
                let len = self.random.random_range(0..8);
                (0..len).map(|_| self.random.random()).collect()
            }
            5 => b"ab".repeat(self.random.random_range(0..100)),
            6 => vec![b'x'; self.random.random_range(40..50)],
            _ => {
                let len = self.random.random_range(0..12);
                let letters = b"abcABC 01";
                (0..len)
                    .map(|_| *letters.choose(&mut self.random).expect("letters"))
                    .collect()
            }
        }
    }

    /// An integer, or what looks like one. None is between what fits a short string and what no
    /// offset may be.
    fn integer(&mut self) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0 => self.one(&[
                "9223372036854775807",
                "-9223372036854775808",
                "9223372036854775808",
                "4294967296",
                "1000000000000",
                "-1000000000000",
            ]),
            1 => self.one(&[
                "", "a", " 1", "1 ", "+1", "01", "-0", "1.0", "0x1", "-", "1e2",
            ]),
            _ => return self.random.random_range(-40..100).to_string().into(),
        }
        .into()
    }

    fn float(&mut self) -> Vec<u8> {
        let whole: i64 = self.random.random_range(-1000..1000);
        match self.random.random_range(0..8) {
            0 => self.integer(),
            1 => format!("{whole}e{}", self.random.random_range(-25..25)).into(),
            2 => format!("{}", self.random.random::<f64>()).into(),
            3 => format!("{whole}.{}", self.random.random::<u64>()).into(),
            4 => self
                .one(&[
                    "inf", "nan", "1e400", "1e-400", ".5", "5.", "1e", "--1", "1e4000",
                ])
                .into(),
            _ => format!(
                "{}",
                f64::from(self.random.random_range(-9999..9999)) / 100.0
            )
            .into(),
        }
    }

    /// In seconds or ms: too far away to come, or passed.
    fn time_to_live(&mut self) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0 => self.one(&["0", "-1", "-1000"]).into(),
            1 => self.one(&["9223372036854775807", "abc", "", "1.5"]).into(),
            _ => self
                .random
                .random_range(100_000..10_000_000)
                .to_string()
                .into(),
        }
    }

    fn moment(&mut self) -> Vec<u8> {
        let far = ["33177117420000", "33177117421499", "33177117421500"];
        match self.random.random_range(0..6) {
            0 => self.one(&["1", "-1", "0", "1000000000"]).into(),
            1 => self.one(&["9223372036854775807", "abc"]).into(),
            _ => self.one(&far).into(),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let mut payload = match self.dumps.len() {
            0 => b"none".to_vec(),
            len => self.dumps[self.random.random_range(0..len)].clone(),
        };
        if self.chance(10) {
            let at = self.random.random_range(0..payload.len());
            payload[at] ^= 1 << self.random.random_range(0..8);
        }
        payload
    }

    fn set_options(&mut self, command: &mut Command) {
        if self.chance(40) {
            return;
        }
        let mut options = Vec::new();
        for (percent, option) in [(30, "NX"), (20, "XX"), (30, "GET"), (20, "KEEPTTL")] {
            if self.chance(percent) {
                options.push(vec![option.as_bytes().to_vec()]);
            }
        }
        if self.chance(40) {
            let word = self.one(&["EX", "PX"]);
            options.push(vec![word.into(), self.time_to_live()]);
        }
        if self.chance(10) {
            options.push(vec![b"PXAT".to_vec(), b"33177117420000".to_vec()]);
        }
        while !options.is_empty() {
            let at = self.random.random_range(0..options.len());
            command.extend(options.swap_remove(at));
        }
    }

    fn getex_options(&mut self, command: &mut Command) {
        match self.random.random_range(0..5) {
            0 => {}
            1 => command.push(b"PERSIST".to_vec()),
            2 => command.extend([b"EXAT".to_vec(), self.moment()]),
            _ => {
                let word = self.one(&["EX", "PX"]);
                command.extend([word.into(), self.time_to_live()]);
            }
        }
    }

    fn bitfield(&mut self, command: &mut Command, kinds: &[&str]) {
        for _ in 0..self.random.random_range(1..4) {
            let kind = self.one(kinds);
            command.push(kind.into());
            if kind == "OVERFLOW" {
                let how = self.one(&["WRAP", "SAT", "FAIL"]);
                command.push(how.into());
                continue;
            }
            let sign = self.one(&["u", "i"]);
            let bits = match self.random.random_range(0..20) {
                0 => self.random.random_range(60..67),
                _ => self.random.random_range(1..64),
            };
            command.push(format!("{sign}{bits}").into());
            let hash = if self.chance(30) { "#" } else { "" };
            command.push(format!("{hash}{}", self.random.random_range(0..70)).into());
            match kind {
                "GET" => {}
                _ if self.chance(50) => {
                    command.push(self.random.random::<i64>().to_string().into());
                }
                _ => command.push(self.integer()),
            }
        }
    }
}

fn is_about_time(word: &[u8]) -> bool {
    let words = ["EX", "PX", "EXAT", "PXAT", "SETEX", "PSETEX", "RESTORE"];
    words.iter().any(|time| word == time.as_bytes()) || word.windows(6).any(|six| six == b"EXPIRE")
}

fn push_words(command: &mut Command, words: &str) {
    command.extend(words.split_whitespace().map(|word| word.into()));
}
