//! The part of docs/CONFIG.md about rules, origins and events, derived from the lists of keys.

use std::fmt::Write;

use super::reader::Key;
use super::{events, origins, read_rules};

const RULES: &str = "
## Rules

A rule says for which keys a missing value is loaded, and how long it is fresh. Rules stand in \
the file only, below the settings, each in a table `[[rule]]`; the first whose `match` fits a \
key is the key's rule.

```toml
[[origin]]
name = \"users\"
kind = \"http\"
url = \"http://127.0.0.1:8000/users/{1}\"

[[rule]]
match = \"user:*\"
origin = \"users\"
ttl = \"5m\"
```

- `match` is a glob as for KEYS: `*` any bytes, `?` any one, `[a-z]`, `[^a-z]`, `\\x`. A star \
catches the fewest bytes that let the rest match, from the left, and the last star what is \
left: `a:*:*` catches `1` and `2:3` of `a:1:2:3`.
- In texts with places, `{1}` to `{9}` is what the first to the ninth star caught, `{0}` or \
`{key}` the whole key; `{{` and `}}` are braces. A number beyond the stars of a rule is \
refused when the file is read.
- Durations are a whole number with its unit: `250ms`, `2s`, `5m`, `1h`, `7d`.
- CONFIG REWRITE leaves rules, origins and events as they are.
- `CORRAL.RELOAD`, or SIGHUP, reads them anew and drops no connection; other settings are not \
taken up, but must be right, too. If anything in the file is wrong, nothing changes, and the \
reply and the log say what. Counters go on for a rule of the same name, breaker and queue for an \
origin whose settings are the same, and what is under way ends by the rules that it began by.
- As a front, `soft-timeout`, `tags` and the two settings for stale values do nothing.

";

const ORIGINS: &str = "
## Origins

An origin is where missing values come from. All of them have these settings, and those of \
their kind below.

";

const HTTP: &str = "
### HTTP

What is filled into a URL is percent-encoded as a part of a path segment or of a query \
component. A key that would make a path segment empty, `.` or `..` is refused, and so is one \
that cannot be a word in a header. 200 to 299 is a value; it may be empty. HTTP/2 is spoken \
over TLS where the server does. A status of 500 or more, and 429, count as failures of the \
origin for the breaker, others do not.

";

const SQL: &str = "
### SQL: PostgreSQL, MySQL and MariaDB, SQLite

What is filled into a statement is a bind parameter, wherever it stands: write `{1}` without \
quotes. A place may say its type: `{1:int}`, `{1:text}`, `{1:bytes}`. Without one, \
PostgreSQL's is inferred from where it stands (an integer where it is compared with one), and \
MySQL's and SQLite's is text. MySQL reads a text as far as it is a number where it compares \
the two, so that `42x` finds 42: say `{1:int}` there. For other types let the statement \
convert: `{1:text}::date`.

A row of one column is that column as text, as the database prints it; a row of more is a JSON \
object, with times in UTC. A type that is not known is refused: let the statement convert it \
to text. Of several rows the first counts. No row is no value, and neither is NULL in a single \
column. A statement that nobody waits for any more is ended by the database soon after, by \
`statement_timeout` and its like.

";

const COMMAND: &str = "
### Commands

A program is run for each call, without a shell. Each element of the list is one argument, \
whatever is filled in. An argument that begins with a place may not begin with `-`, unless an \
element `--` stands before it; a place in what follows `-c` or `-e` of a shell or an \
interpreter is refused when the file is read: give it `{1}` as an argument behind (`[\"sh\", \
\"-c\", 'cat -- \"$1\"', \"sh\", \"{1}\"]`). The program runs in a process group of its own, \
which is killed when its time is over. What it leaves behind with its standard output open is \
waited for.

";

const REDIS: &str = "
### Redis

GET, SET and DEL of one key. A value that is no string is a failure.

";

const EVENTS: &str = "
## Events

An event is a source of messages that say what changed, each in a table `[[event]]`. What a \
message names is invalidated: standalone, keys leave the keyspace and tags are invalidated as \
by `TAG.INVALIDATE`; as a front, keys, and those of tags, are removed upstream.

```toml
[[event]]
name = \"orders\"
kind = \"pubsub\"
url = \"redis://10.0.0.5:6379\"
channels = [\"orders.*\"]
keys = [\"order:{1}\", \"{id}\"]
tags = [\"user:{user}\"]
```

- In `keys` and `tags`, `{1}` to `{9}` is what a star of the channel's glob, or of `match`, \
caught, `{0}` the whole channel or key, `{payload}` the whole message, and any other word the \
field of that name: of the JSON object that the message is, or of a stream's entry. A field \
must be a text, a number or a truth value. `{{` and `}}` are braces.
- A message that lacks what a name is made of, whose key would be longer than 64 KiB or tag \
longer than 1024 bytes, or that is longer than 1 MiB itself, is counted as `unusable` and \
passed over; the log is told why, at most every ten seconds, and never what it says.
- Messages are taken as fast as they can be done, and wait where they come from until then.
- A lost connection is made again, at once at first, a second later on. A stream and a topic of \
Kafka go on where they were. What else was sent meanwhile is lost: so all keys that the names \
could have been (a place stands for anything) expire at once where a rule has a stale window \
for them, else they are removed, and the same goes for the keys of such tags. The log and \
`swept` in INFO tell how many. Standalone, that is done at the first connection as well, since \
values may have come in before. A front that starts leaves alone what upstream has: what was \
said while it did not run is missed, but for streams and Kafka.
- `CORRAL.RELOAD` and SIGHUP take up other events, too; one whose settings are the same keeps \
its connection.
- As a front, every front removes what its events name; a load under way elsewhere ends unseen \
where only one front of a `group` is told. Give each front a group of its own then, and each \
standalone server always.

";

const PUBSUB: &str = "
### Channels of a Redis

A channel with a `*`, `?`, `[` or `\\` in it is a glob (PSUBSCRIBE), and has stars.

";

const STREAM: &str = "
### Streams of a Redis

Read as a consumer of a group, and acknowledged when it is done. What this consumer had taken \
and not acknowledged comes first after a restart, then what is new; what others of the group \
left lying for longer than `claim-after` is taken over. A group that is not there is made at \
the end of the stream. Where entries were removed before they were read, all is swept as above.

";

const KEYSPACE: &str = "
### Notifications of a Redis about its keys

Keys of the database of the `url`, or of `db` at the upstream. `{payload}` is the name of the \
notification. The Redis must send them: `notify-keyspace-events` needs `K` and the classes of \
the events; corral warns if it has less, and changes nothing. A node of a cluster tells of its \
own keys only.

";

const POSTGRES: &str = "
### NOTIFY of a PostgreSQL

`NOTIFY channel, 'payload'`. The payload has less than 8000 bytes.

";

const KAFKA: &str = "
### Kafka

`{key}` is the message's key, `{payload}` its value. Committed when it is done. A group that \
never read the topic begins where that ends; a partition that is added later is read from its \
beginning. What a broker removed before it was read is not noticed: let it keep messages for \
longer than a server may be down. Plain connections only, without TLS and SASL. Needs a server \
that was built with `--features kafka`, which builds librdkafka: a C compiler and make are needed.

";

/// The sections.
pub(in crate::config) fn write(text: &mut String) {
    text.push_str(RULES);
    table(text, read_rules::KEYS);
    text.push_str(ORIGINS);
    table(text, origins::KEYS);
    text.push_str("\nThose that keep connections, all but commands, have these too:\n\n");
    table(text, origins::POOL_KEYS);
    for (head, keys) in [
        (HTTP, origins::HTTP_KEYS),
        (SQL, origins::SQL_KEYS),
        (COMMAND, origins::COMMAND_KEYS),
        (REDIS, origins::REDIS_KEYS),
    ] {
        text.push_str(head);
        table(text, keys);
    }
    text.push_str(EVENTS);
    table(text, events::KEYS);
    text.push_str("\nThose of a Redis have these, too:\n\n");
    table(text, events::REDIS_KEYS);
    for (head, keys) in [
        (PUBSUB, events::PUBSUB_KEYS),
        (STREAM, events::STREAM_KEYS),
        (KEYSPACE, events::KEYSPACE_KEYS),
        (POSTGRES, events::POSTGRES_KEYS),
        (KAFKA, events::KAFKA_KEYS),
    ] {
        text.push_str(head);
        table(text, keys);
    }
}

fn table(text: &mut String, keys: &[Key]) {
    text.push_str("| setting | what it does | values | default |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let Key {
            name,
            values,
            default,
            doc,
        } = key;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {doc} | {values} | {default} |");
    }
}
