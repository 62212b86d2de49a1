//! Whether the upstream serves: one PING on a connection of its own, for those who watch over us.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Cause, ConnectError, Opening, Upstream};
use super::own;
use crate::clock;

/// How long the upstream may take, TLS and AUTH included, unless `upstream-timeout` is shorter.
/// Less than the second that Kubernetes waits for an answer, so that the answer can say why.
const ANSWER_MAX: Duration = Duration::from_millis(900);

/// How long an answer stands: however often is asked, the upstream is asked no more than that.
const STANDS: Duration = Duration::from_secs(1);

/// What the last probe found.
#[derive(Debug, Default)]
pub(super) struct Probe {
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Upstream {
    /// Whether a client that comes now would be served.
    ///
    /// # Errors
    /// Why not; continues "upstream …".
    pub async fn probe(&self) -> Result<(), String> {
        // Who asks meanwhile waits for the same answer.
        let mut last = self.probe.last.lock().await;
        if let Some((when, found)) = &*last
            && when.elapsed() < STANDS
        {
            return found.clone();
        }
        let found = self.ping().await;
        *last = Some((clock::now(), found.clone()));
        found
    }

    async fn ping(&self) -> Result<(), String> {
        let ping = [Opening::new("PING", &[own::PING])];
        match tokio::time::timeout(ANSWER_MAX, self.connect_uncounted(&ping)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_alive(&error) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "{} did not answer within {ANSWER_MAX:?}",
                self.shown()
            )),
        }
    }
}

/// Whether the upstream is there, but leaves it to each client to say who it is.
fn is_alive(error: &ConnectError) -> bool {
    let Cause::Rejected { request, error } = error.cause() else {
        return false;
    };
    request == "PING" && (error.starts_with("NOAUTH ") || error.starts_with("NOPERM "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What a probe finds where every connection is answered so, and an upstream to ask again.
    async fn probed(answer: &'static [u8]) -> (Result<(), String>, Upstream, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 14];
                tcp.read_exact(&mut request).await.unwrap();
                assert_eq!(&request, b"*1\r\n$4\r\npING\r\n");
                tcp.write_all(answer).await.unwrap();
                // A silent one stays.
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        let url = format!("redis://{address}").parse().unwrap();
        let upstream = Upstream::new(url, None, Duration::from_secs(20));
        let found = upstream.probe().await;
        let found = found.map_err(|error| error.replace(&address.to_string(), "it"));
        (found, upstream, asked)
    }

    #[tokio::test]
    async fn an_upstream_that_answers_serves_and_one_that_cannot_yet_does_not() {
        for answer in [
            &b"+PONG\r\n"[..],
            b"-NOAUTH Authentication required.\r\n",
            b"-NOPERM this user has no permissions to run the 'ping' command\r\n",
        ] {
            assert_eq!(probed(answer).await.0, Ok(()));
        }
        let loading = probed(b"-LOADING Redis is loading the dataset in memory\r\n").await;
        let why = "it rejected PING: LOADING Redis is loading the dataset in memory";
        assert_eq!(loading.0, Err(why.to_owned()));
    }

    #[tokio::test]
    async fn an_upstream_that_is_silent_is_not_waited_for() {
        let found = probed(b"").await.0;
        assert_eq!(found, Err("it did not answer within 900ms".to_owned()));
    }

    #[tokio::test]
    async fn however_often_is_asked_the_upstream_is_asked_once_a_second() {
        let (found, upstream, asked) = probed(b"+PONG\r\n").await;
        assert_eq!(found, Ok(()));
        for _ in 0..10 {
            let [one, other] = [upstream.probe(), upstream.probe()];
            assert_eq!(tokio::join!(one, other), (Ok(()), Ok(())));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(STANDS).await;
        assert_eq!(upstream.probe().await, Ok(()));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // What is counted is what was done for clients.
        let counted = upstream.counters.connections.load(Ordering::Relaxed);
        assert_eq!(counted, 0);
    }
}
