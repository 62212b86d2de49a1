//! stub
use crate::instance::Instance;
use std::sync::Arc;
pub async fn start(_: &Arc<Instance>) {}
