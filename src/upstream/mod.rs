//! stub
use crate::config::Config;
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::server::stream::Stream;
use std::sync::Arc;
pub struct Upstream;
impl Upstream {
    pub fn of(_: &Config) -> Result<Option<Self>, String> {
        Ok(None)
    }
    pub async fn serve(&self, _: &Instance, _: Stream, _: &Arc<Client>, _: usize) {}
}
