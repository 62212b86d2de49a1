//! `SCRIPT KILL` and `FUNCTION KILL`: over a connection of their own, whatever else is going on.
//!
//! A script that runs for ever holds up the shared connection it came by, and while it runs
//! upstream refuses what a client's private connection would have to be told first. A client
//! has one such connection at most: its next request of this kind waits for the reply.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::outbox::Outbox;
use super::waiting::failure;
use crate::resp::frame::{FrameError, FrameScanner};
use crate::upstream::Upstream;

/// A longer reply is none.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Sends the request, and puts its reply at this place.
pub(super) fn send(upstream: &Arc<Upstream>, request: &[u8], outbox: &Rc<Outbox>, at: u64) {
    let (upstream, outbox, request) = (Arc::clone(upstream), Rc::clone(outbox), request.to_vec());
    tokio::task::spawn_local(async move {
        let timeout = upstream.timeout();
        let reply = match tokio::time::timeout(timeout, exchange(&upstream, &request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(why)) => failure(&why),
            Err(_) => failure(&format!("did not answer within {timeout:?}")),
        };
        outbox.put(at, &reply, true);
    });
}

async fn exchange(upstream: &Upstream, request: &[u8]) -> Result<Vec<u8>, String> {
    let mut connection = upstream
        .connect()
        .await
        .map_err(|error| error.to_string())?;
    let lost = |error: std::io::Error| error.to_string();
    connection.write_all(request).await.map_err(lost)?;
    connection.flush().await.map_err(lost)?;
    let (mut scanner, mut reply) = (FrameScanner::new(), Vec::new());
    let mut chunk = [0; 1024];
    while reply.len() < REPLY_BYTES_MAX {
        let read = connection.read(&mut chunk).await.map_err(lost)?;
        if read == 0 {
            return Err("closed the connection".to_owned());
        }
        let scan = scanner
            .scan(&chunk[..read])
            .map_err(|error: FrameError| error.to_string())?;
        reply.extend_from_slice(&chunk[..scan.len]);
        if scan.ended.is_some() {
            return Ok(reply);
        }
    }
    Err("sent too long a reply".to_owned())
}
