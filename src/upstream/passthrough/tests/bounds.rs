//! What does not read stops what writes, and all that is held and waited for is bounded.

use super::*;

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_upstream_and_loses_nothing() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, SHORT).await;
    client.send("GET a\r\n").await;
    upstream.expect("GET a\r\n").await;
    let value = vec![b'x'; 64 << 20];
    let writing = tokio::spawn(async move {
        upstream.send(format!("${}\r\n", value.len())).await;
        upstream.send(&value).await;
        upstream.send("\r\n").await;
        upstream
    });
    tokio::time::sleep(SHORT * 4).await;
    assert!(!writing.is_finished(), "64 MB are held somewhere");
    assert!(client.counted(|counters| &counters.bytes_received) < 1 << 20);
    client.expect("$67108864\r\n").await;
    client.expect(vec![b'x'; 64 << 20]).await;
    client.expect("\r\n").await;
    soon(writing).await.unwrap();
    assert_eq!(client.counted(|counters| &counters.timeouts), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_client() {
    let fake = FakeUpstream::new().await;
    let (mut client, upstream) = connected(&fake, PATIENCE).await;
    let request = format!("*2\r\n$4\r\nECHO\r\n$60000\r\n{}\r\n", "x".repeat(60_000));
    let many = request.repeat(1000);
    let sending = tokio::time::timeout(SHORT * 4, client.peer.0.write_all(many.as_bytes()));
    assert!(sending.await.is_err(), "60 MB are held somewhere");
    drop(upstream);
    drop(client.peer);
    assert_eq!(soon(client.served).await.unwrap(), Ended::ClientClosed);
}

#[tokio::test]
async fn requests_under_way_are_bounded_in_number() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    let most = "PING\r\n".repeat(OWED_REPLIES_MAX);
    client.send(&most).await;
    client.send("PING\r\n").await;
    upstream.expect(&most).await;
    let more = tokio::time::timeout(SHORT, upstream.0.read_u8()).await;
    assert!(more.is_err(), "one too many was forwarded");
    upstream.send("+PONG\r\n").await;
    upstream.expect("PING\r\n").await;
}

#[tokio::test]
async fn draining_answers_what_was_read_and_ends() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\n").await;
    upstream.expect("GET a\r\n").await;
    let by = Instant::now() + PATIENCE;
    client.control.send(Stop::Drain { by }).unwrap();
    client.send("GET b\r\n").await;
    upstream.send("$1\r\na\r\n").await;
    client.expect("$1\r\na\r\n").await;
    upstream.expect_end().await;
    assert_eq!(client.ended().await, Ended::Stopped);
}

#[tokio::test]
async fn draining_ends_idle_blocked_and_subscribed_clients_at_once() {
    for ask in ["", "BLPOP k 0\r\n", "SUBSCRIBE a\r\n"] {
        let fake = FakeUpstream::new().await;
        let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
        client.send(ask).await;
        upstream.expect(ask).await;
        if ask.starts_with("SUB") {
            let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
            exchange(&mut client, &mut upstream, "", confirmed).await;
        }
        client
            .control
            .send(Stop::Drain {
                by: Instant::now() + PATIENCE,
            })
            .unwrap();
        upstream.expect_end().await;
        assert_eq!(client.ended().await, Ended::Stopped, "{ask}");
    }
}

#[tokio::test]
async fn draining_has_a_deadline() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\n").await;
    upstream.expect("GET a\r\n").await;
    client
        .control
        .send(Stop::Drain {
            by: Instant::now() + SHORT,
        })
        .unwrap();
    assert_eq!(client.ended().await, Ended::Stopped);
}

#[tokio::test]
async fn stopping_now_waits_for_nothing() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\n").await;
    upstream.expect("GET a\r\n").await;
    client.control.send(Stop::Now).unwrap();
    assert_eq!(client.ended().await, Ended::Stopped);
    upstream.expect_end().await;
}
