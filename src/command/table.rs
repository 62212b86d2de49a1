//! The command table: one row per command. Start reading here.
//!
//! It knows every command and subcommand of Redis 7.0.15, whether or not we run it ourselves: as a
//! front we must know the keys of all that passes through. A row's handler is its family's module
//! and the function of its name; `unsupported` replies that the command does not exist
//! standalone. A subcommand's row follows its container's, whose own handler is not reached.
//!
//! What a row does not say is derived (ACL categories, `movablekeys`, key searches) or stands in
//! `docs_data.rs`, for our own commands in `docs.rs`. [`build`] joins the two at compile time: a
//! row out of order, twice, without documentation, or with other keys than its key specs tell
//! does not compile.

use super::docs::{self, Docs};
use super::docs_data;
use super::key_spec::{KeySearch, Keys};
use super::spec::{Arity, Categories, Command, Flags, Handler, container_len};
use super::{
    bitmaps, cache, client, connection, corral, introspect, keys, server, strings, tags,
    transactions, unsupported,
};
pub use crate::metrics::COMMAND_COUNT;
use Arity::{AtLeast, Exactly};

/// What one line of the table says.
struct Row {
    name: &'static str,
    arity: Arity,
    flags: Flags,
    keys: Keys,
    cacheable: bool,
    handler: Handler,
}

/// Every command, sorted by name. `cached` rows only read, and their replies may be cached: they
/// depend on nothing but the values of their keys and the arguments.
#[rustfmt::skip]
const ROWS: [Row; COMMAND_COUNT] = [
    //      name                arity       flags           keys     handler
    row(   "acl",               AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "acl|cat",           AtLeast(2), SESSION,        NO_KEYS, unsupported),
    row(   "acl|deluser",       AtLeast(3), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|dryrun",        AtLeast(4), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|genpass",       AtLeast(2), SESSION,        NO_KEYS, unsupported),
    row(   "acl|getuser",       Exactly(3), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|help",          Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "acl|list",          Exactly(2), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|load",          Exactly(2), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|log",           AtLeast(2), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|save",          Exactly(2), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|setuser",       AtLeast(3), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|users",         Exactly(2), OPERATE,        NO_KEYS, unsupported),
    row(   "acl|whoami",        Exactly(2), SESSION,        NO_KEYS, unsupported),
    row(   "append",            Exactly(3), GROW.and(FAST), ONE_KEY, strings::append),
    row(   "asking",            Exactly(1), FAST,           NO_KEYS, unsupported),
    row(   "auth",              AtLeast(2), HANDSHAKE,      NO_KEYS, connection::auth),
    row(   "bgrewriteaof",      Exactly(1), REPLICATE,      NO_KEYS, unsupported),
    row(   "bgsave",            AtLeast(1), REPLICATE,      NO_KEYS, unsupported),
    cached("bitcount",          AtLeast(2), NONE,           ONE_KEY, bitmaps::bitcount),
    row(   "bitfield",          AtLeast(2), GROW,           ONE_KEY, bitmaps::bitfield),
    cached("bitfield_ro",       AtLeast(2), FAST,           ONE_KEY, bitmaps::bitfield_ro),
    row(   "bitop",             AtLeast(4), GROW,           FROM_2,  bitmaps::bitop),
    cached("bitpos",            AtLeast(3), NONE,           ONE_KEY, bitmaps::bitpos),
    row(   "blmove",            Exactly(6), WAIT_GROW,      TWO_KEYS, unsupported),
    row(   "blmpop",            AtLeast(5), WRITE.and(BLOCKING), MOVABLE, unsupported),
    row(   "blpop",             AtLeast(3), WAIT,           BUT_LAST, unsupported),
    row(   "brpop",             AtLeast(3), WAIT,           BUT_LAST, unsupported),
    row(   "brpoplpush",        Exactly(4), WAIT_GROW,      TWO_KEYS, unsupported),
    row(   "bzmpop",            AtLeast(5), WRITE.and(BLOCKING), MOVABLE, unsupported),
    row(   "bzpopmax",          AtLeast(3), WAIT_FAST,      BUT_LAST, unsupported),
    row(   "bzpopmin",          AtLeast(3), WAIT_FAST,      BUT_LAST, unsupported),
    row(   "cache.explain",     Exactly(2), READ.and(FAST), ONE_KEY, server::cache_explain),
    row(   "cache.get",         AtLeast(2), READ.and(FAST), ONE_KEY, cache::get),
    row(   "cache.refresh",     AtLeast(2), READ.and(FAST).and(NO_MULTI), ALL_KEYS, cache::refresh),
    row(   "cache.stats",       Exactly(1), READ.and(FAST), NO_KEYS, server::cache_stats),
    row(   "client",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "client|cache-info", Exactly(3), SESSION,        NO_KEYS, client::client_cache_info),
    row(   "client|caching",    Exactly(3), SESSION,        NO_KEYS, unsupported),
    row(   "client|getname",    Exactly(2), SESSION,        NO_KEYS, client::client_getname),
    row(   "client|getredir",   Exactly(2), SESSION,        NO_KEYS, client::client_getredir),
    row(   "client|help",       Exactly(2), ANYTIME,        NO_KEYS, client::client_help),
    row(   "client|id",         Exactly(2), SESSION,        NO_KEYS, client::client_id),
    row(   "client|info",       Exactly(2), SESSION,        NO_KEYS, client::client_info),
    row(   "client|kill",       AtLeast(3), OPERATE,        NO_KEYS, client::client_kill),
    row(   "client|list",       AtLeast(2), OPERATE,        NO_KEYS, client::client_list),
    row(   "client|no-evict",   Exactly(3), OPERATE,        NO_KEYS, client::client_no_evict),
    row(   "client|pause",      AtLeast(3), OPERATE,        NO_KEYS, client::client_pause),
    row(   "client|reply",      Exactly(3), SESSION,        NO_KEYS, client::client_reply),
    row(   "client|setinfo",    Exactly(4), SESSION,        NO_KEYS, client::client_setinfo),
    row(   "client|setname",    Exactly(3), SESSION,        NO_KEYS, client::client_setname),
    row(   "client|tracking",   AtLeast(3), SESSION,        NO_KEYS, unsupported),
    row(   "client|trackinginfo", Exactly(2), SESSION,      NO_KEYS, client::client_trackinginfo),
    row(   "client|unblock",    AtLeast(3), OPERATE,        NO_KEYS, client::client_unblock),
    row(   "client|unpause",    Exactly(2), OPERATE,        NO_KEYS, client::client_unpause),
    row(   "cluster",           AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "cluster|addslots",  AtLeast(3), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|addslotsrange", AtLeast(4), TOPOLOGY,   NO_KEYS, unsupported),
    row(   "cluster|bumpepoch", Exactly(2), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|count-failure-reports", Exactly(3), ADMIN.and(STALE), NO_KEYS, unsupported),
    row(   "cluster|countkeysinslot", Exactly(3), STALE,    NO_KEYS, unsupported),
    row(   "cluster|delslots",  AtLeast(3), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|delslotsrange", AtLeast(4), TOPOLOGY,   NO_KEYS, unsupported),
    row(   "cluster|failover",  AtLeast(2), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|flushslots", Exactly(2), TOPOLOGY,      NO_KEYS, unsupported),
    row(   "cluster|forget",    Exactly(3), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|getkeysinslot", Exactly(4), STALE,      NO_KEYS, unsupported),
    row(   "cluster|help",      Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "cluster|info",      Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "cluster|keyslot",   Exactly(3), STALE,          NO_KEYS, unsupported),
    row(   "cluster|links",     Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "cluster|meet",      AtLeast(4), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|myid",      Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "cluster|nodes",     Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "cluster|replicas",  Exactly(3), ADMIN.and(STALE), NO_KEYS, unsupported),
    row(   "cluster|replicate", Exactly(3), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|reset",     AtLeast(2), ADMIN.and(NOSCRIPT).and(STALE), NO_KEYS, unsupported),
    row(   "cluster|saveconfig", Exactly(2), TOPOLOGY,      NO_KEYS, unsupported),
    row(   "cluster|set-config-epoch", Exactly(3), TOPOLOGY, NO_KEYS, unsupported),
    row(   "cluster|setslot",   AtLeast(4), TOPOLOGY,       NO_KEYS, unsupported),
    row(   "cluster|shards",    Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "cluster|slaves",    Exactly(3), ADMIN.and(STALE), NO_KEYS, unsupported),
    row(   "cluster|slots",     Exactly(2), STALE,          NO_KEYS, unsupported),
    row(   "command",           AtLeast(1), ANYTIME,        NO_KEYS, introspect::command),
    row(   "command|count",     Exactly(2), ANYTIME,        NO_KEYS, introspect::command_count),
    row(   "command|docs",      AtLeast(2), ANYTIME,        NO_KEYS, introspect::command_docs),
    row(   "command|getkeys",   AtLeast(4), ANYTIME,        NO_KEYS, introspect::command_getkeys),
    row(   "command|getkeysandflags", AtLeast(4), ANYTIME,  NO_KEYS,
        introspect::command_getkeysandflags),
    row(   "command|help",      Exactly(2), ANYTIME,        NO_KEYS, introspect::command_help),
    row(   "command|info",      AtLeast(2), ANYTIME,        NO_KEYS, introspect::command_info),
    row(   "command|list",      AtLeast(2), ANYTIME,        NO_KEYS, introspect::command_list),
    row(   "config",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "config|get",        AtLeast(3), OPERATE,        NO_KEYS, server::config_get),
    row(   "config|help",       Exactly(2), ANYTIME,        NO_KEYS, server::config_help),
    row(   "config|resetstat",  Exactly(2), OPERATE,        NO_KEYS, server::config_resetstat),
    row(   "config|rewrite",    Exactly(2), OPERATE,        NO_KEYS, server::config_rewrite),
    row(   "config|set",        AtLeast(4), OPERATE,        NO_KEYS, server::config_set),
    row(   "copy",              AtLeast(3), GROW,           TWO_KEYS, keys::copy),
    row(   "corral.client",     AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "corral.client|help", Exactly(2), ANYTIME,       NO_KEYS, corral::client_help),
    row(   "corral.client|kill", AtLeast(3), OPERATE,       NO_KEYS, client::client_kill),
    row(   "corral.client|list", AtLeast(2), OPERATE,       NO_KEYS, client::client_list),
    row(   "corral.config",     AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "corral.config|get", AtLeast(3), OPERATE,        NO_KEYS, server::config_get),
    row(   "corral.config|help", Exactly(2), ANYTIME,       NO_KEYS, corral::config_help),
    row(   "corral.config|resetstat", Exactly(2), OPERATE,  NO_KEYS, server::config_resetstat),
    row(   "corral.config|rewrite", Exactly(2), OPERATE,    NO_KEYS, server::config_rewrite),
    row(   "corral.config|set", AtLeast(4), OPERATE,        NO_KEYS, server::config_set),
    row(   "corral.info",       AtLeast(1), ANYTIME,        NO_KEYS, server::info),
    row(   "corral.reload",     Exactly(1), OPERATE.and(NO_MULTI), NO_KEYS, corral::reload),
    row(   "corral.slowlog",    AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "corral.slowlog|get", AtLeast(2), OPERATE,       NO_KEYS, server::slowlog_get),
    row(   "corral.slowlog|help", Exactly(2), ANYTIME,      NO_KEYS, corral::slowlog_help),
    row(   "corral.slowlog|len", Exactly(2), OPERATE,       NO_KEYS, server::slowlog_len),
    row(   "corral.slowlog|reset", Exactly(2), OPERATE,     NO_KEYS, server::slowlog_reset),
    row(   "dbsize",            Exactly(1), READ.and(FAST), NO_KEYS, keys::dbsize),
    row(   "debug",             AtLeast(2), OPERATE.and(PROTECTED), NO_KEYS, server::debug),
    row(   "decr",              Exactly(2), GROW.and(FAST), ONE_KEY, strings::decr),
    row(   "decrby",            Exactly(3), GROW.and(FAST), ONE_KEY, strings::decrby),
    row(   "del",               AtLeast(2), WRITE,          ALL_KEYS, keys::del),
    row(   "discard",           Exactly(1), TRANSACT,       NO_KEYS, transactions::discard),
    row(   "dump",              Exactly(2), READ,           ONE_KEY, keys::dump),
    row(   "echo",              Exactly(2), ANYTIME.and(FAST), NO_KEYS, connection::echo),
    row(   "eval",              AtLeast(3), SCRIPT,         MOVABLE, unsupported),
    row(   "eval_ro",           AtLeast(3), SCRIPT_READ,    MOVABLE, unsupported),
    row(   "evalsha",           AtLeast(3), SCRIPT,         MOVABLE, unsupported),
    row(   "evalsha_ro",        AtLeast(3), SCRIPT_READ,    MOVABLE, unsupported),
    row(   "exec",              Exactly(1), SESSION.and(SKIP_SLOWLOG), NO_KEYS, transactions::exec),
    cached("exists",            AtLeast(2), FAST,           ALL_KEYS, keys::exists),
    row(   "expire",            AtLeast(3), WRITE.and(FAST), ONE_KEY, keys::expire),
    row(   "expireat",          AtLeast(3), WRITE.and(FAST), ONE_KEY, keys::expireat),
    row(   "expiretime",        Exactly(2), READ.and(FAST), ONE_KEY, keys::expiretime),
    row(   "failover",          AtLeast(1), ADMIN.and(NOSCRIPT).and(STALE), NO_KEYS, unsupported),
    row(   "fcall",             AtLeast(3), SCRIPT,         MOVABLE, unsupported),
    row(   "fcall_ro",          AtLeast(3), SCRIPT_READ,    MOVABLE, unsupported),
    row(   "flushall",          AtLeast(1), WRITE,          NO_KEYS, keys::flushall),
    row(   "flushdb",           AtLeast(1), WRITE,          NO_KEYS, keys::flushdb),
    row(   "function",          AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "function|delete",   Exactly(3), WRITE.and(NOSCRIPT), NO_KEYS, unsupported),
    row(   "function|dump",     Exactly(2), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "function|flush",    AtLeast(2), WRITE.and(NOSCRIPT), NO_KEYS, unsupported),
    row(   "function|help",     Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "function|kill",     Exactly(2), NOSCRIPT.and(ALLOW_BUSY), NO_KEYS, unsupported),
    row(   "function|list",     AtLeast(2), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "function|load",     AtLeast(3), GROW.and(NOSCRIPT), NO_KEYS, unsupported),
    row(   "function|restore",  AtLeast(3), GROW.and(NOSCRIPT), NO_KEYS, unsupported),
    row(   "function|stats",    Exactly(2), NOSCRIPT.and(ALLOW_BUSY), NO_KEYS, unsupported),
    row(   "geoadd",            AtLeast(5), GROW,           ONE_KEY, unsupported),
    cached("geodist",           AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("geohash",           AtLeast(2), NONE,           ONE_KEY, unsupported),
    cached("geopos",            AtLeast(2), NONE,           ONE_KEY, unsupported),
    row(   "georadius",         AtLeast(6), GROW,           ONE_KEY, unsupported),
    cached("georadius_ro",      AtLeast(6), NONE,           ONE_KEY, unsupported),
    row(   "georadiusbymember", AtLeast(5), GROW,           ONE_KEY, unsupported),
    cached("georadiusbymember_ro", AtLeast(5), NONE,        ONE_KEY, unsupported),
    cached("geosearch",         AtLeast(7), NONE,           ONE_KEY, unsupported),
    row(   "geosearchstore",    AtLeast(8), GROW,           TWO_KEYS, unsupported),
    cached("get",               Exactly(2), FAST,           ONE_KEY, strings::get),
    cached("getbit",            Exactly(3), FAST,           ONE_KEY, bitmaps::getbit),
    row(   "getdel",            Exactly(2), WRITE.and(FAST), ONE_KEY, strings::getdel),
    row(   "getex",             AtLeast(2), WRITE.and(FAST), ONE_KEY, strings::getex),
    cached("getrange",          Exactly(4), NONE,           ONE_KEY, strings::getrange),
    row(   "getset",            Exactly(3), GROW.and(FAST), ONE_KEY, strings::getset),
    row(   "hdel",              AtLeast(3), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "hello",             AtLeast(1), HANDSHAKE,      NO_KEYS, connection::hello),
    cached("hexists",           Exactly(3), FAST,           ONE_KEY, unsupported),
    cached("hget",              Exactly(3), FAST,           ONE_KEY, unsupported),
    cached("hgetall",           Exactly(2), NONE,           ONE_KEY, unsupported),
    row(   "hincrby",           Exactly(4), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "hincrbyfloat",      Exactly(4), GROW.and(FAST), ONE_KEY, unsupported),
    cached("hkeys",             Exactly(2), NONE,           ONE_KEY, unsupported),
    cached("hlen",              Exactly(2), FAST,           ONE_KEY, unsupported),
    cached("hmget",             AtLeast(3), FAST,           ONE_KEY, unsupported),
    row(   "hmset",             AtLeast(4), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "hrandfield",        AtLeast(2), READ,           ONE_KEY, unsupported),
    row(   "hscan",             AtLeast(3), READ,           ONE_KEY, unsupported),
    row(   "hset",              AtLeast(4), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "hsetnx",            Exactly(4), GROW.and(FAST), ONE_KEY, unsupported),
    cached("hstrlen",           Exactly(3), FAST,           ONE_KEY, unsupported),
    cached("hvals",             Exactly(2), NONE,           ONE_KEY, unsupported),
    row(   "incr",              Exactly(2), GROW.and(FAST), ONE_KEY, strings::incr),
    row(   "incrby",            Exactly(3), GROW.and(FAST), ONE_KEY, strings::incrby),
    row(   "incrbyfloat",       Exactly(3), GROW.and(FAST), ONE_KEY, strings::incrbyfloat),
    row(   "info",              AtLeast(1), ANYTIME,        NO_KEYS, server::info),
    row(   "keys",              Exactly(2), READ,           NO_KEYS, keys::keys),
    row(   "lastsave",          Exactly(1), ANYTIME.and(FAST), NO_KEYS, unsupported),
    row(   "latency",           AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "latency|doctor",    Exactly(2), OPERATE,        NO_KEYS, server::latency_doctor),
    row(   "latency|graph",     Exactly(3), OPERATE,        NO_KEYS, server::latency_graph),
    row(   "latency|help",      Exactly(2), ANYTIME,        NO_KEYS, server::latency_help),
    row(   "latency|histogram", AtLeast(2), OPERATE,        NO_KEYS, server::latency_histogram),
    row(   "latency|history",   Exactly(3), OPERATE,        NO_KEYS, server::latency_history),
    row(   "latency|latest",    Exactly(2), OPERATE,        NO_KEYS, server::latency_latest),
    row(   "latency|reset",     AtLeast(2), OPERATE,        NO_KEYS, server::latency_reset),
    cached("lcs",               AtLeast(3), NONE,           TWO_KEYS, strings::lcs),
    cached("lindex",            Exactly(3), NONE,           ONE_KEY, unsupported),
    row(   "linsert",           Exactly(5), GROW,           ONE_KEY, unsupported),
    cached("llen",              Exactly(2), FAST,           ONE_KEY, unsupported),
    row(   "lmove",             Exactly(5), GROW,           TWO_KEYS, unsupported),
    row(   "lmpop",             AtLeast(4), WRITE,          MOVABLE, unsupported),
    row(   "lolwut",            AtLeast(1), READ.and(FAST), NO_KEYS, server::lolwut),
    row(   "lpop",              AtLeast(2), WRITE.and(FAST), ONE_KEY, unsupported),
    cached("lpos",              AtLeast(3), NONE,           ONE_KEY, unsupported),
    row(   "lpush",             AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "lpushx",            AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    cached("lrange",            Exactly(4), NONE,           ONE_KEY, unsupported),
    row(   "lrem",              Exactly(4), WRITE,          ONE_KEY, unsupported),
    row(   "lset",              Exactly(4), GROW,           ONE_KEY, unsupported),
    row(   "ltrim",             Exactly(4), WRITE,          ONE_KEY, unsupported),
    row(   "memory",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "memory|doctor",     Exactly(2), NONE,           NO_KEYS, server::memory_doctor),
    row(   "memory|help",       Exactly(2), ANYTIME,        NO_KEYS, server::memory_help),
    row(   "memory|malloc-stats", Exactly(2), NONE,         NO_KEYS, server::memory_malloc_stats),
    row(   "memory|purge",      Exactly(2), NONE,           NO_KEYS, server::memory_purge),
    row(   "memory|stats",      Exactly(2), NONE,           NO_KEYS, server::memory_stats),
    row(   "memory|usage",      AtLeast(3), READ,           KEY_AT_2, server::memory_usage),
    cached("mget",              AtLeast(2), FAST,           ALL_KEYS, strings::mget),
    row(   "migrate",           AtLeast(6), WRITE,          KEY_AT_3, unsupported),
    row(   "module",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "module|help",       Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "module|list",       Exactly(2), ADMIN.and(NOSCRIPT), NO_KEYS, unsupported),
    row(   "module|load",       AtLeast(3), MODULE,         NO_KEYS, unsupported),
    row(   "module|loadex",     AtLeast(3), MODULE,         NO_KEYS, unsupported),
    row(   "module|unload",     Exactly(3), MODULE,         NO_KEYS, unsupported),
    row(   "monitor",           Exactly(1), OPERATE,        NO_KEYS, server::monitor),
    row(   "move",              Exactly(3), WRITE.and(FAST), ONE_KEY, keys::r#move),
    row(   "mset",              AtLeast(3), GROW,           PAIRS,   strings::mset),
    row(   "msetnx",            AtLeast(3), GROW,           PAIRS,   strings::msetnx),
    row(   "multi",             Exactly(1), TRANSACT,       NO_KEYS, transactions::multi),
    row(   "object",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "object|encoding",   Exactly(3), READ,           KEY_AT_2, keys::object_encoding),
    row(   "object|freq",       Exactly(3), READ,           KEY_AT_2, keys::object_freq),
    row(   "object|help",       Exactly(2), ANYTIME,        NO_KEYS, keys::object_help),
    row(   "object|idletime",   Exactly(3), READ,           KEY_AT_2, keys::object_idletime),
    row(   "object|refcount",   Exactly(3), READ,           KEY_AT_2, keys::object_refcount),
    row(   "persist",           Exactly(2), WRITE.and(FAST), ONE_KEY, keys::persist),
    row(   "pexpire",           AtLeast(3), WRITE.and(FAST), ONE_KEY, keys::pexpire),
    row(   "pexpireat",         AtLeast(3), WRITE.and(FAST), ONE_KEY, keys::pexpireat),
    row(   "pexpiretime",       Exactly(2), READ.and(FAST), ONE_KEY, keys::pexpiretime),
    row(   "pfadd",             AtLeast(2), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "pfcount",           AtLeast(2), READ.and(MAY_REPLICATE), ALL_KEYS, unsupported),
    row(   "pfdebug",           Exactly(3), GROW.and(ADMIN), KEY_AT_2, unsupported),
    row(   "pfmerge",           AtLeast(2), GROW,           ALL_KEYS, unsupported),
    row(   "pfselftest",        Exactly(1), ADMIN,          NO_KEYS, unsupported),
    row(   "ping",              AtLeast(1), FAST,           NO_KEYS, connection::ping),
    row(   "psetex",            Exactly(4), GROW,           ONE_KEY, strings::psetex),
    row(   "psubscribe",        AtLeast(2), SUBSCRIBE,      NO_KEYS, unsupported),
    row(   "psync",             AtLeast(3), REPLICATE.and(NO_MULTI), NO_KEYS, unsupported),
    row(   "pttl",              Exactly(2), READ.and(FAST), ONE_KEY, keys::pttl),
    row(   "publish",           Exactly(3), PUBLISH,        NO_KEYS, unsupported),
    row(   "pubsub",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "pubsub|channels",   AtLeast(2), PUBSUB.and(ANYTIME), NO_KEYS, unsupported),
    row(   "pubsub|help",       Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "pubsub|numpat",     Exactly(2), PUBSUB.and(ANYTIME), NO_KEYS, unsupported),
    row(   "pubsub|numsub",     AtLeast(2), PUBSUB.and(ANYTIME), NO_KEYS, unsupported),
    row(   "pubsub|shardchannels", AtLeast(2), PUBSUB.and(ANYTIME), NO_KEYS, unsupported),
    row(   "pubsub|shardnumsub", AtLeast(2), PUBSUB.and(ANYTIME), NO_KEYS, unsupported),
    row(   "punsubscribe",      AtLeast(1), SUBSCRIBE,      NO_KEYS, unsupported),
    row(   "quit",              AtLeast(1), HANDSHAKE,      NO_KEYS, connection::quit),
    row(   "randomkey", Exactly(1), READ.and(TOUCHES_ARBITRARY_KEYS), NO_KEYS, keys::randomkey),
    row(   "readonly",          Exactly(1), ANYTIME.and(FAST), NO_KEYS, unsupported),
    row(   "readwrite",         Exactly(1), ANYTIME.and(FAST), NO_KEYS, unsupported),
    row(   "rename",            Exactly(3), WRITE,          TWO_KEYS, keys::rename),
    row(   "renamenx",          Exactly(3), WRITE.and(FAST), TWO_KEYS, keys::renamenx),
    row(   "replconf",          AtLeast(1), OPERATE.and(ALLOW_BUSY), NO_KEYS, unsupported),
    row(   "replicaof",         Exactly(3), RESYNC,         NO_KEYS, unsupported),
    row(   "reset",             Exactly(1), HANDSHAKE,      NO_KEYS, connection::reset),
    row(   "restore",           AtLeast(4), GROW,           ONE_KEY, keys::restore),
    row(   "restore-asking",    AtLeast(4), GROW.and(ASKING), ONE_KEY, unsupported),
    row(   "role",              Exactly(1), SESSION.and(FAST), NO_KEYS, server::role),
    row(   "rpop",              AtLeast(2), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "rpoplpush",         Exactly(3), GROW,           TWO_KEYS, unsupported),
    row(   "rpush",             AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "rpushx",            AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "sadd",              AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "save",              Exactly(1), REPLICATE.and(NO_MULTI), NO_KEYS, unsupported),
    row(   "scan",              AtLeast(2), READ.and(TOUCHES_ARBITRARY_KEYS), NO_KEYS, keys::scan),
    cached("scard",             Exactly(2), FAST,           ONE_KEY, unsupported),
    row(   "script",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "script|debug",      Exactly(3), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "script|exists",     AtLeast(3), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "script|flush",      AtLeast(2), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "script|help",       Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "script|kill",       Exactly(2), NOSCRIPT.and(ALLOW_BUSY), NO_KEYS, unsupported),
    row(   "script|load",       Exactly(3), NOSCRIPT.and(STALE), NO_KEYS, unsupported),
    cached("sdiff",             AtLeast(2), NONE,           ALL_KEYS, unsupported),
    row(   "sdiffstore",        AtLeast(3), GROW,           ALL_KEYS, unsupported),
    row(   "select",            Exactly(2), ANYTIME.and(FAST), NO_KEYS, connection::select),
    row(   "set",               AtLeast(3), GROW,           ONE_KEY, strings::set),
    row(   "setbit",            Exactly(4), GROW,           ONE_KEY, bitmaps::setbit),
    row(   "setex",             Exactly(4), GROW,           ONE_KEY, strings::setex),
    row(   "setnx",             Exactly(3), GROW.and(FAST), ONE_KEY, strings::setnx),
    row(   "setrange",          Exactly(4), GROW,           ONE_KEY, strings::setrange),
    row("shutdown", AtLeast(1), OPERATE.and(NO_MULTI).and(ALLOW_BUSY), NO_KEYS, server::shutdown),
    cached("sinter",            AtLeast(2), NONE,           ALL_KEYS, unsupported),
    cached("sintercard",        AtLeast(3), NONE,           MOVABLE, unsupported),
    row(   "sinterstore",       AtLeast(3), GROW,           ALL_KEYS, unsupported),
    cached("sismember",         Exactly(3), FAST,           ONE_KEY, unsupported),
    row(   "slaveof",           Exactly(3), RESYNC,         NO_KEYS, unsupported),
    row(   "slowlog",           AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "slowlog|get",       AtLeast(2), ADMIN.and(ANYTIME), NO_KEYS, server::slowlog_get),
    row(   "slowlog|help",      Exactly(2), ANYTIME,        NO_KEYS, server::slowlog_help),
    row(   "slowlog|len",       Exactly(2), ADMIN.and(ANYTIME), NO_KEYS, server::slowlog_len),
    row(   "slowlog|reset",     Exactly(2), ADMIN.and(ANYTIME), NO_KEYS, server::slowlog_reset),
    cached("smembers",          Exactly(2), NONE,           ONE_KEY, unsupported),
    cached("smismember",        AtLeast(3), FAST,           ONE_KEY, unsupported),
    row(   "smove",             Exactly(4), WRITE.and(FAST), TWO_KEYS, unsupported),
    row(   "sort",              AtLeast(2), GROW,           ONE_KEY, unsupported),
    row(   "sort_ro",           AtLeast(2), READ,           ONE_KEY, unsupported),
    row(   "spop",              AtLeast(2), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "spublish",          Exactly(3), PUBLISH,        ONE_KEY, unsupported),
    row(   "srandmember",       AtLeast(2), READ,           ONE_KEY, unsupported),
    row(   "srem",              AtLeast(3), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "sscan",             AtLeast(3), READ,           ONE_KEY, unsupported),
    row(   "ssubscribe",        AtLeast(2), SUBSCRIBE,      ALL_KEYS, unsupported),
    cached("strlen",            Exactly(2), FAST,           ONE_KEY, strings::strlen),
    row(   "subscribe",         AtLeast(2), SUBSCRIBE,      NO_KEYS, unsupported),
    cached("substr",            Exactly(4), NONE,           ONE_KEY, strings::substr),
    cached("sunion",            AtLeast(2), NONE,           ALL_KEYS, unsupported),
    row(   "sunionstore",       AtLeast(3), GROW,           ALL_KEYS, unsupported),
    row(   "sunsubscribe",      AtLeast(1), SUBSCRIBE,      ALL_KEYS, unsupported),
    row(   "swapdb",            Exactly(3), WRITE.and(FAST), NO_KEYS, keys::swapdb),
    row(   "sync",              Exactly(1), REPLICATE.and(NO_MULTI), NO_KEYS, unsupported),
    row(   "tag.add",           AtLeast(3), GROW.and(FAST), ONE_KEY, tags::add),
    row(   "tag.card",          Exactly(2), READ.and(FAST), NO_KEYS, tags::card),
    row(   "tag.invalidate",    AtLeast(2), WRITE.and(FAST), NO_KEYS, tags::invalidate),
    row(   "tag.members",       Exactly(2), READ,           NO_KEYS, tags::members),
    row(   "tag.of",            Exactly(2), READ.and(FAST), ONE_KEY, tags::of),
    row(   "tag.rem",           AtLeast(3), WRITE.and(FAST), ONE_KEY, tags::rem),
    row(   "tag.scan",          AtLeast(2), READ,           NO_KEYS, tags::scan),
    row(   "time",              Exactly(1), ANYTIME.and(FAST), NO_KEYS, server::time),
    row(   "touch",             AtLeast(2), READ.and(FAST), ALL_KEYS, keys::touch),
    row(   "ttl",               Exactly(2), READ.and(FAST), ONE_KEY, keys::ttl),
    cached("type",              Exactly(2), FAST,           ONE_KEY, keys::r#type),
    row(   "unlink",            AtLeast(2), WRITE.and(FAST), ALL_KEYS, keys::unlink),
    row(   "unsubscribe",       AtLeast(1), SUBSCRIBE,      NO_KEYS, unsupported),
    row(   "unwatch",           Exactly(1), TRANSACT,       NO_KEYS, transactions::unwatch),
    row(   "wait",              Exactly(3), NOSCRIPT,       NO_KEYS, unsupported),
    row(   "watch",             AtLeast(2), TRANSACT,       ALL_KEYS, transactions::watch),
    row(   "xack",              AtLeast(4), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "xadd",              AtLeast(5), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "xautoclaim",        AtLeast(6), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "xclaim",            AtLeast(6), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "xdel",              AtLeast(3), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "xgroup",            AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "xgroup|create",     AtLeast(5), GROW,           KEY_AT_2, unsupported),
    row(   "xgroup|createconsumer", Exactly(5), GROW,       KEY_AT_2, unsupported),
    row(   "xgroup|delconsumer", Exactly(5), WRITE,         KEY_AT_2, unsupported),
    row(   "xgroup|destroy",    Exactly(4), WRITE,          KEY_AT_2, unsupported),
    row(   "xgroup|help",       Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "xgroup|setid",      AtLeast(5), WRITE,          KEY_AT_2, unsupported),
    row(   "xinfo",             AtLeast(2), NONE,           NO_KEYS, unsupported),
    row(   "xinfo|consumers",   Exactly(4), READ,           KEY_AT_2, unsupported),
    row(   "xinfo|groups",      Exactly(3), READ,           KEY_AT_2, unsupported),
    row(   "xinfo|help",        Exactly(2), ANYTIME,        NO_KEYS, unsupported),
    row(   "xinfo|stream",      AtLeast(3), READ,           KEY_AT_2, unsupported),
    cached("xlen",              Exactly(2), FAST,           ONE_KEY, unsupported),
    row(   "xpending",          AtLeast(3), READ,           ONE_KEY, unsupported),
    cached("xrange",            AtLeast(4), NONE,           ONE_KEY, unsupported),
    row(   "xread",             AtLeast(4), READ.and(BLOCKING), MOVABLE, unsupported),
    row(   "xreadgroup",        AtLeast(7), WRITE.and(BLOCKING), MOVABLE, unsupported),
    cached("xrevrange",         AtLeast(4), NONE,           ONE_KEY, unsupported),
    row(   "xsetid",            AtLeast(3), GROW.and(FAST), ONE_KEY, unsupported),
    row(   "xtrim",             AtLeast(4), WRITE,          ONE_KEY, unsupported),
    row(   "zadd",              AtLeast(4), GROW.and(FAST), ONE_KEY, unsupported),
    cached("zcard",             Exactly(2), FAST,           ONE_KEY, unsupported),
    cached("zcount",            Exactly(4), FAST,           ONE_KEY, unsupported),
    cached("zdiff",             AtLeast(3), NONE,           MOVABLE, unsupported),
    row(   "zdiffstore",        AtLeast(4), GROW,           ONE_KEY, unsupported),
    row(   "zincrby",           Exactly(4), GROW.and(FAST), ONE_KEY, unsupported),
    cached("zinter",            AtLeast(3), NONE,           MOVABLE, unsupported),
    cached("zintercard",        AtLeast(3), NONE,           MOVABLE, unsupported),
    row(   "zinterstore",       AtLeast(4), GROW,           ONE_KEY, unsupported),
    cached("zlexcount",         Exactly(4), FAST,           ONE_KEY, unsupported),
    row(   "zmpop",             AtLeast(4), WRITE,          MOVABLE, unsupported),
    cached("zmscore",           AtLeast(3), FAST,           ONE_KEY, unsupported),
    row(   "zpopmax",           AtLeast(2), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "zpopmin",           AtLeast(2), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "zrandmember",       AtLeast(2), READ,           ONE_KEY, unsupported),
    cached("zrange",            AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("zrangebylex",       AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("zrangebyscore",     AtLeast(4), NONE,           ONE_KEY, unsupported),
    row(   "zrangestore",       AtLeast(5), GROW,           TWO_KEYS, unsupported),
    cached("zrank",             Exactly(3), FAST,           ONE_KEY, unsupported),
    row(   "zrem",              AtLeast(3), WRITE.and(FAST), ONE_KEY, unsupported),
    row(   "zremrangebylex",    Exactly(4), WRITE,          ONE_KEY, unsupported),
    row(   "zremrangebyrank",   Exactly(4), WRITE,          ONE_KEY, unsupported),
    row(   "zremrangebyscore",  Exactly(4), WRITE,          ONE_KEY, unsupported),
    cached("zrevrange",         AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("zrevrangebylex",    AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("zrevrangebyscore",  AtLeast(4), NONE,           ONE_KEY, unsupported),
    cached("zrevrank",          Exactly(3), FAST,           ONE_KEY, unsupported),
    row(   "zscan",             AtLeast(3), READ,           ONE_KEY, unsupported),
    cached("zscore",            Exactly(3), FAST,           ONE_KEY, unsupported),
    cached("zunion",            AtLeast(3), NONE,           MOVABLE, unsupported),
    row(   "zunionstore",       AtLeast(4), GROW,           ONE_KEY, unsupported),
];

/// Every command and subcommand, sorted by name; a subcommand follows its container.
pub static COMMANDS: [Command; COMMAND_COUNT] = build();

/// The handler of what we do not run ourselves. Beside [`COMMANDS`], so that the compiler cannot
/// give the two a copy of the function each: they are compared.
pub(super) static UNSUPPORTED: Handler = unsupported;

/// The commands that are no subcommands, sorted by name.
pub fn top_level() -> impl Iterator<Item = &'static Command> + Clone {
    COMMANDS.iter().filter(|command| !command.is_subcommand())
}

/// A row whose replies are not cached.
const fn row(name: &'static str, arity: Arity, flags: Flags, keys: Keys, handler: Handler) -> Row {
    Row {
        name,
        arity,
        flags,
        keys,
        cacheable: false,
        handler,
    }
}

/// A row of a command that only reads, and whose replies may be cached.
const fn cached(
    name: &'static str,
    arity: Arity,
    flags: Flags,
    keys: Keys,
    handler: Handler,
) -> Row {
    Row {
        name,
        arity,
        flags: flags.and(READ),
        keys,
        cacheable: true,
        handler,
    }
}

/// Joins each row with its documentation, and checks what a row could get wrong.
const fn build() -> [Command; COMMAND_COUNT] {
    let mut commands = [const { NOTHING }; COMMAND_COUNT];
    let (mut at, mut container, mut redis, mut ours) = (0, 0, 0, 0);
    while at < COMMAND_COUNT {
        let row = &ROWS[at];
        assert!(
            at == 0 || is_less(ROWS[at - 1].name, row.name),
            "rows are sorted, none is double"
        );
        let docs =
            if redis < docs_data::REDIS.len() && is_same(row.name, docs_data::REDIS[redis].name) {
                redis += 1;
                &docs_data::REDIS[redis - 1]
            } else {
                assert!(ours < docs::OURS.len(), "a row has its documentation");
                assert!(
                    is_same(row.name, docs::OURS[ours].name),
                    "a row has its documentation"
                );
                ours += 1;
                &docs::OURS[ours - 1]
            };
        commands[at] = command(at, row, docs);
        let name = row.name.as_bytes();
        if container_len(row.name) == name.len() {
            container = at;
        } else {
            let (name, _) = name.split_at(container_len(row.name));
            assert!(
                is_same_bytes(name, ROWS[container].name.as_bytes()),
                "it has its container"
            );
            commands[container].subcommands_len += 1;
        }
        at += 1;
    }
    assert!(
        redis == docs_data::REDIS.len() && ours == docs::OURS.len(),
        "docs have their row"
    );
    commands
}

/// One row and its documentation, joined.
const fn command(index: usize, row: &Row, docs: &'static Docs) -> Command {
    let (keys, movable) = Keys::of(docs.key_specs);
    assert!(
        keys.first == row.keys.first && keys.last == row.keys.last && keys.step == row.keys.step,
        "the row and the key specs tell the same keys"
    );
    assert!(
        !row.cacheable || (!docs.key_specs.is_empty() && !row.flags.contains(WRITE)),
        "what can be cached reads keys and writes none"
    );
    assert!(index <= u16::MAX as usize, "an index is kept in 16 bits");
    Command {
        name: row.name,
        arity: row.arity,
        flags: if movable {
            row.flags.and(Flags::MOVABLE_KEYS)
        } else {
            row.flags
        },
        categories: docs.categories.with_implied(row.flags),
        keys,
        cacheable: row.cacheable,
        handler: row.handler,
        docs,
        key_search: KeySearch::of(row.name, docs.key_specs, movable),
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        index: index as u16,
        subcommands_len: 0,
    }
}

/// What the table is filled with before it is built.
const NOTHING: Command = Command {
    name: "",
    arity: Exactly(0),
    flags: NONE,
    categories: Categories::NONE,
    keys: NO_KEYS,
    cacheable: false,
    handler: unsupported,
    docs: &Docs::NONE,
    key_search: KeySearch::None,
    index: 0,
    subcommands_len: 0,
};

const fn is_same(left: &str, right: &str) -> bool {
    is_same_bytes(left.as_bytes(), right.as_bytes())
}

const fn is_same_bytes(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

const fn is_less(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at < right.len() && (at == left.len() || left[at] < right[at])
}

// Flags that come together.
const NONE: Flags = Flags::NONE;
const READ: Flags = Flags::READONLY;
const WRITE: Flags = Flags::WRITE;
/// Writes, and may need memory for it.
const GROW: Flags = WRITE.and(Flags::DENYOOM);
/// Writes, or waits until there is something to write.
const WAIT: Flags = WRITE.and(NOSCRIPT).and(BLOCKING);
const WAIT_FAST: Flags = WAIT.and(FAST);
const WAIT_GROW: Flags = GROW.and(NOSCRIPT).and(BLOCKING);
/// Whatever state the data is in.
const ANYTIME: Flags = LOADING.and(STALE);
/// About the client's own connection.
const SESSION: Flags = NOSCRIPT.and(ANYTIME);
const TRANSACT: Flags = SESSION.and(FAST).and(ALLOW_BUSY);
/// What a client may do before all else.
const HANDSHAKE: Flags = TRANSACT.and(NO_AUTH);
/// For operators.
const OPERATE: Flags = ADMIN.and(NOSCRIPT).and(ANYTIME);
const MODULE: Flags = ADMIN.and(NOSCRIPT).and(PROTECTED).and(NO_ASYNC_LOADING);
/// Between servers.
const REPLICATE: Flags = ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING);
const RESYNC: Flags = REPLICATE.and(STALE);
const TOPOLOGY: Flags = ADMIN.and(STALE).and(NO_ASYNC_LOADING);
const SUBSCRIBE: Flags = PUBSUB.and(SESSION);
const PUBLISH: Flags = PUBSUB.and(ANYTIME).and(FAST).and(MAY_REPLICATE);
const SCRIPT: Flags = NOSCRIPT
    .and(STALE)
    .and(SKIP_MONITOR)
    .and(MAY_REPLICATE)
    .and(NO_MANDATORY_KEYS);
const SCRIPT_READ: Flags = READ
    .and(NOSCRIPT)
    .and(STALE)
    .and(SKIP_MONITOR)
    .and(NO_MANDATORY_KEYS);

// Flags by themselves.
const ADMIN: Flags = Flags::ADMIN;
const ALLOW_BUSY: Flags = Flags::ALLOW_BUSY;
const ASKING: Flags = Flags::ASKING;
const BLOCKING: Flags = Flags::BLOCKING;
const FAST: Flags = Flags::FAST;
const LOADING: Flags = Flags::LOADING;
const MAY_REPLICATE: Flags = Flags::MAY_REPLICATE;
const NO_ASYNC_LOADING: Flags = Flags::NO_ASYNC_LOADING;
const NO_AUTH: Flags = Flags::NO_AUTH;
const NO_MANDATORY_KEYS: Flags = Flags::NO_MANDATORY_KEYS;
const NO_MULTI: Flags = Flags::NO_MULTI;
const NOSCRIPT: Flags = Flags::NOSCRIPT;
const PROTECTED: Flags = Flags::PROTECTED;
const PUBSUB: Flags = Flags::PUBSUB;
const SKIP_MONITOR: Flags = Flags::SKIP_MONITOR;
const SKIP_SLOWLOG: Flags = Flags::SKIP_SLOWLOG;
const STALE: Flags = Flags::STALE;
const TOUCHES_ARBITRARY_KEYS: Flags = Flags::TOUCHES_ARBITRARY_KEYS;

// Where keys are.
const NO_KEYS: Keys = Keys::NONE;
/// Where no triple can say; the key specs do.
const MOVABLE: Keys = Keys::NONE;
const ONE_KEY: Keys = keys_at(1, 1, 1);
const TWO_KEYS: Keys = keys_at(1, 2, 1);
/// All arguments.
const ALL_KEYS: Keys = keys_at(1, -1, 1);
/// All arguments but the last.
const BUT_LAST: Keys = keys_at(1, -2, 1);
/// Key, value, key, value …
const PAIRS: Keys = keys_at(1, -1, 2);
const KEY_AT_2: Keys = keys_at(2, 2, 1);
const KEY_AT_3: Keys = keys_at(3, 3, 1);
/// All arguments but the first.
const FROM_2: Keys = keys_at(2, -1, 1);

const fn keys_at(first: i8, last: i8, step: i8) -> Keys {
    Keys { first, last, step }
}

#[cfg(test)]
mod tests;
