//! stub
use super::{CommandError, Context};
use crate::resp::Request;
pub(super) fn bitcount(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn bitfield(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn bitfield_ro(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn bitop(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn bitpos(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn getbit(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn setbit(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
