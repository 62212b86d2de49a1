//! Bitmaps: bits and integers inside of strings.
//!
//! The arithmetic is in [`bits`] and [`bitfield`](super::bitfield).

use super::bitfield::{FieldType, Overflow, Written};
use super::bits::{self, Bit, Logic, Range};
use super::options::{Rest, integer, is_word};
use super::{CommandError, Context};
use crate::keyspace::Place;
use crate::resp::{Reply, Request};

type Result<T = ()> = std::result::Result<T, CommandError>;

pub(super) fn setbit(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let offset = offset(context, request.argument(2))?;
    let bit = match integer(request.argument(3)) {
        Ok(0) => Bit::Clear,
        Ok(1) => Bit::Set,
        Ok(_) | Err(_) => {
            return Err(CommandError::other(
                "ERR bit is not an integer or out of range",
            ));
        }
    };
    let mut before = Bit::Clear;
    context.view.update(
        place,
        |len| len.max(offset / 8 + 1),
        |value, old_len| {
            before = bits::set(value, offset, bit);
            before != bit || value.len() != old_len
        },
    )?;
    context.reply.integer(number(before));
    Ok(())
}

pub(super) fn getbit(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let offset = offset(context, request.argument(2))?;
    let bit = context
        .view
        .read(place)
        .map_or(Bit::Clear, |entry| bits::get(entry.value(), offset));
    context.reply.integer(number(bit));
    Ok(())
}

/// A bit's number, within the longest string there may be.
fn offset(context: &Context<'_>, argument: &[u8]) -> Result<usize> {
    bits::parse_offset(argument, context.string_bytes_max() as u64)
        .map_err(|error| CommandError::other(error.to_string()))
}

fn number(bit: Bit) -> i64 {
    match bit {
        Bit::Clear => 0,
        Bit::Set => 1,
    }
}

pub(super) fn bitcount(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    // Of a key that is not there, Redis does not read the range.
    let count = match context.view.read(place) {
        None => 0,
        Some(entry) => match count_range(request)? {
            None => 0,
            Some(range) => bits::count_range(entry.value(), range),
        },
    };
    context
        .reply
        .integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// The range of BITCOUNT; None if it is empty whatever it counts, so that what it counts is not
/// read.
fn count_range(request: &Request<'_>) -> Result<Option<Range>> {
    if request.len() == 2 {
        return Ok(Some(Range::ALL));
    }
    if request.len() != 4 && request.len() != 5 {
        return Err(CommandError::Syntax);
    }
    let (start, end) = (integer(request.argument(2))?, integer(request.argument(3))?);
    if start < 0 && end < start {
        return Ok(None);
    }
    Ok(Some(Range {
        start,
        end: Some(end),
        unit: unit(request.get(4))?,
    }))
}

pub(super) fn bitpos(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let bit = match integer(request.argument(2))? {
        0 => Bit::Clear,
        1 => Bit::Set,
        _ => return Err(CommandError::other("ERR The bit argument must be 1 or 0.")),
    };
    let position = match (context.view.read(place), bit) {
        (Some(entry), _) => bits::position(entry.value(), bit, search_range(request)?),
        // Nothing but zeros, without an end; its range is not read.
        (None, Bit::Clear) => Some(0),
        (None, Bit::Set) => None,
    };
    let position = position.map_or(-1, |position| i64::try_from(position).unwrap_or(i64::MAX));
    context.reply.integer(position);
    Ok(())
}

/// The range of BITPOS, read in Redis's order.
fn search_range(request: &Request<'_>) -> Result<Range> {
    if request.len() == 3 {
        return Ok(Range::ALL);
    }
    if request.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let start = integer(request.argument(3))?;
    let unit = unit(request.get(5))?;
    let end = request.get(4).map(integer).transpose()?;
    Ok(Range { start, end, unit })
}

fn unit(argument: Option<&[u8]>) -> Result<bits::Unit> {
    match argument {
        None => Ok(bits::Unit::Byte),
        Some(word) if is_word(word, "byte") => Ok(bits::Unit::Byte),
        Some(word) if is_word(word, "bit") => Ok(bits::Unit::Bit),
        Some(_) => Err(CommandError::Syntax),
    }
}

pub(super) fn bitop(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let logic = match request.argument(1) {
        word if is_word(word, "and") => Some(Logic::And),
        word if is_word(word, "or") => Some(Logic::Or),
        word if is_word(word, "xor") => Some(Logic::Xor),
        word if is_word(word, "not") => None,
        _ => return Err(CommandError::Syntax),
    };
    if logic.is_none() && request.len() != 4 {
        return Err(CommandError::other(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let result = match logic {
        Some(logic) => combined(context, logic, request),
        None => {
            let place = context.place(request.argument(3));
            context
                .view
                .read(place)
                .map_or_else(Vec::new, |entry| bits::invert(entry.value()))
        }
    };
    let target = context.place(request.argument(2));
    if result.is_empty() {
        context.view.remove(target);
    } else {
        store(context, target, &result)?;
    }
    context.reply.count(result.len());
    Ok(())
}

/// Stores what BITOP made, as what was written in part: Redis does not look for a number in it.
fn store(context: &mut Context<'_>, target: Place<'_>, result: &[u8]) -> Result {
    context.view.update(
        target,
        |_| result.len(),
        |value, _| {
            value.copy_from_slice(result);
            true
        },
    )?;
    context.view.set_expiry(target, None);
    Ok(())
}

/// The sources combined, one after the other: no more than two strings are held beside them.
fn combined(context: &mut Context<'_>, logic: Logic, request: &Request<'_>) -> Vec<u8> {
    let mut result: Option<Vec<u8>> = None;
    for key in request.iter_from(3) {
        let place = context.place(key);
        let found = context.view.read(place);
        let source = found.as_ref().map_or(&[][..], |entry| entry.value());
        result = Some(match result {
            None => source.to_vec(),
            Some(result) => bits::combine(logic, &[&result, source]),
        });
    }
    result.unwrap_or_default()
}

/// One step of BITFIELD.
#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Kind,
    field: FieldType,
    offset: usize,
    overflow: Overflow,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Set(i64),
    Increment(i64),
}

impl Operation {
    fn parse_all(request: &Request<'_>, bytes_max: u64) -> Result<Vec<Self>> {
        let mut operations = Vec::new();
        let mut overflow = Overflow::Wrap;
        let mut rest = Rest::from(request, 2);
        while let Some(word) = rest.next() {
            if is_word(word, "overflow") && rest.left() >= 1 {
                overflow = parse_overflow(rest.required()?)?;
                continue;
            }
            let writing: Option<fn(i64) -> Kind> = match word {
                word if is_word(word, "get") && rest.left() >= 2 => None,
                word if is_word(word, "set") && rest.left() >= 3 => Some(Kind::Set),
                word if is_word(word, "incrby") && rest.left() >= 3 => Some(Kind::Increment),
                _ => return Err(CommandError::Syntax),
            };
            let field = FieldType::parse(rest.required()?)
                .map_err(|error| CommandError::other(error.to_string()))?;
            let offset = field
                .parse_offset(rest.required()?, bytes_max)
                .map_err(|error| CommandError::other(error.to_string()))?;
            let kind = match writing {
                None => Kind::Get,
                Some(kind) => kind(integer(rest.required()?)?),
            };
            operations.push(Self {
                kind,
                field,
                offset,
                overflow,
            });
        }
        Ok(operations)
    }

    fn is_write(&self) -> bool {
        !matches!(self.kind, Kind::Get)
    }

    /// How long the string must be for it.
    fn byte_len(&self) -> usize {
        if self.is_write() {
            self.field.byte_len(self.offset)
        } else {
            0
        }
    }

    /// Replies a field. Only for a GET.
    fn get(&self, bytes: &[u8], reply: &mut Reply) {
        reply.integer(self.field.get(bytes, self.offset));
    }

    /// Does it and replies. Whether it changed anything.
    fn run(&self, bytes: &mut [u8], has_grown: bool, reply: &mut Reply) -> bool {
        let written = match self.kind {
            Kind::Get => {
                self.get(bytes, reply);
                return false;
            }
            Kind::Set(value) => self.field.set(bytes, self.offset, value, self.overflow),
            Kind::Increment(by) => self.field.increment(bytes, self.offset, by, self.overflow),
        };
        match written {
            Some(Written {
                reply: number,
                is_changed,
            }) => {
                reply.integer(number);
                // As in Redis: room that only a failed write asked for is no change.
                is_changed || has_grown
            }
            None => {
                reply.null();
                false
            }
        }
    }
}

fn parse_overflow(word: &[u8]) -> Result<Overflow> {
    match word {
        word if is_word(word, "wrap") => Ok(Overflow::Wrap),
        word if is_word(word, "sat") => Ok(Overflow::Saturate),
        word if is_word(word, "fail") => Ok(Overflow::Fail),
        _ => Err(CommandError::other("ERR Invalid OVERFLOW type specified")),
    }
}

pub(super) fn bitfield(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let bytes_max = context.string_bytes_max();
    let operations = Operation::parse_all(request, bytes_max as u64)?;
    if !operations.iter().any(Operation::is_write) {
        read_fields(context, request, &operations);
        return Ok(());
    }
    let needed = operations
        .iter()
        .map(Operation::byte_len)
        .max()
        .unwrap_or(0);
    // A field may begin within the longest string and end behind it.
    if needed > bytes_max {
        return Err(CommandError::StringTooLong);
    }
    let place = context.place(request.argument(1));
    let reply = &mut *context.reply;
    context.view.update(
        place,
        |len| len.max(needed),
        |value, old_len| {
            let has_grown = value.len() != old_len;
            reply.array(operations.len());
            operations.iter().fold(false, |is_changed, operation| {
                operation.run(value, has_grown, reply) | is_changed
            })
        },
    )?;
    Ok(())
}

pub(super) fn bitfield_ro(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let operations = Operation::parse_all(request, context.string_bytes_max() as u64)?;
    if operations.iter().any(Operation::is_write) {
        return Err(CommandError::other(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read_fields(context, request, &operations);
    Ok(())
}

fn read_fields(context: &mut Context<'_>, request: &Request<'_>, operations: &[Operation]) {
    let place = context.place(request.argument(1));
    let found = context.view.read(place);
    let value = found.as_ref().map_or(&[][..], |entry| entry.value());
    context.reply.array(operations.len());
    for operation in operations {
        operation.get(value, context.reply);
    }
}
