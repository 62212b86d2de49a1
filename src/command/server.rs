//! stub
use super::{CommandError, Context};
use crate::resp::Request;
pub(super) fn cache_stats(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn config_get(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn config_help(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn config_resetstat(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn config_rewrite(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn config_set(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn debug(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn info(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_doctor(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_graph(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_help(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_histogram(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_history(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_latest(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn latency_reset(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn lolwut(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_doctor(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_help(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_malloc_stats(
    _: &mut Context<'_>,
    _: &Request<'_>,
) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_purge(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_stats(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn memory_usage(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn monitor(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn role(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn shutdown(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn slowlog_get(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn slowlog_help(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn slowlog_len(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn slowlog_reset(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
pub(super) fn time(_: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    Err(CommandError::Syntax)
}
