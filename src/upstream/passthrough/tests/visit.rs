//! A client on a visit: its writes wait for a fence.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::resp::Request;

/// Counts fences, which pass at once; no client may leave.
#[derive(Default)]
struct Fences(AtomicUsize);

impl Guard for Fences {
    fn is_write(&self, request: &Request<'_>, _: &Session) -> bool {
        request.argument(0) == b"SET"
    }

    fn held_until(&self) -> Option<Instant> {
        None
    }

    fn lets_go(&self, _: &Session) -> bool {
        false
    }

    fn fence(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

/// Adds nothing.
struct NoHost;

impl Host for NoHost {
    fn is_own(&self, _: &Request<'_>) -> bool {
        false
    }

    fn is_stranger(&self, _: &Session) -> bool {
        false
    }

    fn answer(&self, _: &Request<'_>, _: &Session, _: bool) -> Answer {
        unreachable!("nothing is its own")
    }

    fn adds_to(&self, _: &Request<'_>) -> bool {
        false
    }

    fn addition(&self) -> String {
        unreachable!("it adds to nothing")
    }
}

fn visiting(fake: &FakeUpstream) -> (Client, Arc<Fences>) {
    let url = format!("redis://{}", fake.address()).parse().unwrap();
    let upstream = Arc::new(Upstream::new(url, None, PATIENCE));
    let fences = Arc::new(Fences::default());
    let (peer, served) = duplex(1 << 16);
    let (control, stop) = watch::channel(Stop::No);
    let (behind, guard) = (Arc::clone(&upstream), Arc::<Fences>::clone(&fences));
    let served = tokio::spawn(async move {
        let host = Arc::new(NoHost);
        visit(served, &mut Visit::default(), behind, guard, host, stop).await
    });
    let client = Client {
        peer: Peer(peer),
        upstream,
        control,
        served,
    };
    (client, fences)
}

#[tokio::test]
async fn a_write_is_fenced_and_so_is_the_first_one_after_a_loss() {
    let fake = FakeUpstream::new().await;
    let (mut client, fences) = visiting(&fake);
    client.send("SET k 1\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("SET k 1\r\n").await;
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(fences.0.load(Ordering::Relaxed), 1);
    let requests = "GET k\r\nGET k\r\nSET k 2\r\n";
    client.send(requests).await;
    upstream.expect(requests).await;
    drop(upstream);
    client.expect(lost(&fake).repeat(3)).await;
    client.send("SET k 3\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("SET k 3\r\n").await;
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(fences.0.load(Ordering::Relaxed), 2);
}
