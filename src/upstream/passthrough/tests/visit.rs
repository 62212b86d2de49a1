//! A client on a visit: what its requests do to keys is made known, and waited for.

use parking_lot::Mutex;

use super::*;
use crate::resp::Request;
use crate::upstream::connect::Connection;

/// Notes what it is told of `SET`; `SET any` waits for a fence, which passes at once. No client may
/// leave.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Guard for Told {
    fn touches(&self, request: Option<&Request<'_>>, _: &Session) -> Option<Touched> {
        let request = request.filter(|request| request.argument(0) == b"SET")?;
        Some(match request.argument(1) {
            b"any" => Touched::anything(),
            key => Touched::writing(vec![key.into()]),
        })
    }

    fn settle(&self, touched: Touched) -> Option<Fence> {
        let keys = touched
            .written
            .iter()
            .map(|key| String::from_utf8_lossy(key));
        let keys = keys.collect::<Vec<_>>().concat();
        if !touched.writes_any {
            self.0.lock().push(keys);
            return None;
        }
        self.0.lock().push("any".to_owned());
        Some(Box::pin(std::future::ready(())))
    }

    fn connection(&self, _: &[Opening]) -> Option<Box<dyn Connection>> {
        None
    }

    fn held_until(&self) -> Option<Instant> {
        None
    }

    fn lets_go(&self, _: &Session) -> bool {
        false
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

    fn instead_of(&self, _: &Request<'_>) -> Option<Vec<u8>> {
        None
    }

    fn adds_to(&self, _: &Request<'_>) -> bool {
        false
    }

    fn addition(&self) -> String {
        unreachable!("it adds to nothing")
    }
}

fn visiting(fake: &FakeUpstream) -> (Client, Arc<Told>) {
    let url = format!("redis://{}", fake.address()).parse().unwrap();
    let upstream = Arc::new(Upstream::new(url, None, PATIENCE));
    let told = Arc::new(Told::default());
    let (peer, served) = duplex(1 << 16);
    let (control, stop) = watch::channel(Stop::No);
    let (behind, guard) = (Arc::clone(&upstream), Arc::<Told>::clone(&told));
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
    (client, told)
}

#[tokio::test]
async fn what_a_write_does_is_known_when_its_reply_comes_or_is_lost() {
    let fake = FakeUpstream::new().await;
    let (mut client, told) = visiting(&fake);
    client.send("SET a 1\r\nSET any 1\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("SET a 1\r\nSET any 1\r\n").await;
    assert!(told.0.lock().is_empty());
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(*told.0.lock(), ["a"]);
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(*told.0.lock(), ["a", "any"]);
    let requests = "GET k\r\nSET b 2\r\nSET c 2\r\n";
    client.send(requests).await;
    upstream.expect(requests).await;
    drop(upstream);
    client.expect(lost(&fake).repeat(3)).await;
    assert_eq!(*told.0.lock(), ["a", "any", "b", "c"]);
    client.send("SET d 3\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("SET d 3\r\n").await;
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(*told.0.lock(), ["a", "any", "b", "c", "d"]);
}
