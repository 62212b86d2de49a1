//! Where in a cluster a request goes, by its row in the command table.

use std::collections::HashMap;

use crate::command::keys_of::for_each_key;
use crate::command::lookup::{self, LookupError};
use crate::command::spec::Command;
use crate::resp::Request;
use crate::upstream::topology::{Join, Route, Router, slot_of};

/// Routes by the command table.
pub struct Table;

/// A cluster is to clients as one plain server.
const NO_CLUSTER: &[u8] = b"-ERR This instance has cluster support disabled\r\n";

impl Router for Table {
    fn route(&self, request: &Request<'_>, is_resp3: bool) -> Route {
        let command = match lookup::resolve(request) {
            Ok(command) => command,
            // It is run nowhere: any server says why. A subcommand of another version is keyless.
            Err(LookupError::WrongArity(_) | LookupError::UnknownSubcommand) => return Route::Any,
            // Of a module, or of another version: most have their key first, and where they do
            // not, the server says where it is.
            Err(LookupError::UnknownCommand) => {
                return request
                    .get(1)
                    .map_or(Route::Any, |key| Route::Slot(slot_of(key)));
            }
        };
        match command.container_name() {
            "cluster" | "readonly" | "readwrite" | "asking" => return Route::Answer(NO_CLUSTER),
            "spublish" | "ssubscribe" => return Route::Slot(slot_of(request.argument(1))),
            _ => {}
        }
        if let Some(route) = keyless(command, request) {
            return route;
        }
        let mut slots = None;
        let mut is_one = true;
        for_each_key(command, request, |at| {
            let slot = slot_of(request.argument(at));
            is_one &= *slots.get_or_insert(slot) == slot;
        });
        match slots {
            None => Route::Any,
            Some(slot) if is_one => Route::Slot(slot),
            Some(_) => split(command, request, is_resp3),
        }
    }

    fn for_each_key(&self, request: &Request<'_>, visit: &mut dyn FnMut(&[u8])) {
        if let Ok(command) = lookup::resolve(request) {
            for_each_key(command, request, |at| visit(request.argument(at)));
        }
    }
}

/// What is asked of all masters, or of one that is no key's.
fn keyless(command: &Command, request: &Request<'_>) -> Option<Route> {
    Some(match command.name {
        "dbsize" => Route::Every(Join::Sum),
        "keys" => Route::Every(Join::Concat),
        "randomkey" => Route::Every(Join::Found),
        "scan" => Route::Scan,
        "flushall" | "flushdb" | "script|load" | "script|flush" | "function|load"
        | "function|delete" | "function|flush" | "function|restore" => Route::Every(Join::Same),
        "script|exists" => Route::Every(Join::Least),
        "ping" if request.len() == 1 => Route::Open,
        _ => return None,
    })
}

/// A request whose keys are in several slots.
fn split(command: &Command, request: &Request<'_>, is_resp3: bool) -> Route {
    let (join, width) = match command.name {
        "mget" => {
            let null: &[u8] = if is_resp3 { b"_\r\n" } else { b"$-1\r\n" };
            let keys = request.iter_from(1);
            let get = |key: &[u8]| (slot_of(key), super::wire::request_of(&[b"GET", key]));
            return Route::Split(Join::Each { null }, keys.map(get).collect());
        }
        "mset" => (Join::Same, 2),
        "del" | "unlink" | "exists" | "touch" => (Join::Sum, 1),
        _ => return Route::CrossSlot,
    };
    if !(request.len() - 1).is_multiple_of(width) {
        return Route::Answer(b"-ERR wrong number of arguments for 'mset' command\r\n");
    }
    // By slot, each in the order of the request.
    let mut groups: Vec<(u16, Vec<&[u8]>)> = Vec::new();
    let mut of_slot: HashMap<u16, usize> = HashMap::new();
    for at in (1..request.len()).step_by(width) {
        let slot = slot_of(request.argument(at));
        let words = request.iter_from(at).take(width);
        let at = *of_slot.entry(slot).or_insert_with(|| {
            groups.push((slot, vec![request.argument(0)]));
            groups.len() - 1
        });
        groups[at].1.extend(words);
    }
    let requests = groups.into_iter();
    let requests = requests.map(|(slot, words)| (slot, super::wire::request_of(&words)));
    Route::Split(join, requests.collect())
}
