//! Both ends are the tests': a client and an upstream whose every word is theirs.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use std::sync::atomic::Ordering;

mod bounds;
mod loss;
mod visit;

/// How long anything may take in these tests before they fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// The timeout where one is to be waited for.
const SHORT: Duration = Duration::from_millis(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// An upstream whose every word is up to the test.
struct FakeUpstream(TcpListener);

impl FakeUpstream {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    async fn accept(&self) -> Peer<TcpStream> {
        Peer(soon(self.0.accept()).await.unwrap().0)
    }

    fn client(&self) -> Client {
        self.client_with(PATIENCE)
    }

    fn client_with(&self, timeout: Duration) -> Client {
        Client::of(&format!("redis://{}", self.address()), timeout, 1 << 16)
    }
}

/// One end of a conversation.
struct Peer<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.0.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next bytes that arrive are these.
    async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let mut got = vec![0; bytes.as_ref().len()];
        soon(self.0.read_exact(&mut got)).await.unwrap();
        assert_eq!(
            got.escape_ascii().to_string(),
            bytes.as_ref().escape_ascii().to_string()
        );
    }

    /// Nothing more arrives, and the other side has ended.
    async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        if soon(self.0.read_to_end(&mut rest)).await.is_ok() {
            assert_eq!(rest.escape_ascii().to_string(), "");
        }
    }
}

/// A client, and the pass-through that serves it.
struct Client {
    peer: Peer<DuplexStream>,
    upstream: Arc<Upstream>,
    control: watch::Sender<Stop>,
    served: JoinHandle<Ended>,
}

impl Client {
    fn of(url: &str, timeout: Duration, buffered: usize) -> Self {
        let url = url.parse().unwrap();
        let upstream = Arc::new(Upstream::new(url, None, timeout));
        let (peer, served) = duplex(buffered);
        let (control, stop) = watch::channel(Stop::No);
        let served = tokio::spawn(run(served, Vec::new(), Arc::clone(&upstream), stop));
        Self {
            peer: Peer(peer),
            upstream,
            control,
            served,
        }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.send(bytes).await;
    }

    async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.expect(bytes).await;
    }

    async fn half_close(&mut self) {
        self.peer.0.shutdown().await.unwrap();
    }

    async fn ended(mut self) -> Ended {
        self.peer.expect_end().await;
        drop(self.peer);
        soon(self.served).await.unwrap()
    }

    /// Waits until the pass-through has seen that the upstream went.
    async fn knows_of_the_loss(&self) {
        soon(async {
            while self.counted(|counters| &counters.connections_lost) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn counted(
        &self,
        counter: fn(&super::super::Counters) -> &std::sync::atomic::AtomicU64,
    ) -> u64 {
        counter(&self.upstream.counters).load(Ordering::Relaxed)
    }
}

/// Both in one: what is sent arrives, what is answered arrives.
async fn exchange(client: &mut Client, upstream: &mut Peer<TcpStream>, ask: &str, answer: &str) {
    client.send(ask).await;
    upstream.expect(ask).await;
    upstream.send(answer).await;
    client.expect(answer).await;
}

async fn connected(fake: &FakeUpstream, timeout: Duration) -> (Client, Peer<TcpStream>) {
    let mut client = fake.client_with(timeout);
    client.send("PING\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("PING\r\n").await;
    upstream.send("+PONG\r\n").await;
    client.expect("+PONG\r\n").await;
    (client, upstream)
}

fn lost(fake: &FakeUpstream) -> String {
    format!("-ERR upstream {} closed the connection\r\n", fake.address())
}

/// After `session` was answered, an upstream that dies takes the client with it, without a word.
async fn dies_with_the_upstream(session: &[(&str, &str)]) {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    for (ask, answer) in session {
        exchange(&mut client, &mut upstream, ask, answer).await;
    }
    drop(upstream);
    assert_eq!(client.ended().await, Ended::UpstreamLost, "{session:?}");
}

/// After `session` was answered, a dead upstream is replaced when the next request comes.
async fn survives_the_upstream(session: &[(&str, &str)]) {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    for (ask, answer) in session {
        exchange(&mut client, &mut upstream, ask, answer).await;
    }
    drop(upstream);
    client.knows_of_the_loss().await;
    client.send("PING\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("PING\r\n").await;
    upstream.send("+PONG\r\n").await;
    client.expect("+PONG\r\n").await;
}

#[tokio::test]
async fn bytes_pass_as_they_are_and_a_pipeline_stays_one() {
    let fake = FakeUpstream::new().await;
    let mut client = fake.client();
    let pipeline = "*1\r\n$4\r\npInG\r\nGET  \"k\"\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    client.send(pipeline).await;
    let mut upstream = fake.accept().await;
    upstream.expect(pipeline).await;
    let replies = "+PONG\r\n$-1\r\n*2\r\n:1\r\n%1\r\n+a\r\n_\r\n";
    upstream.send(replies).await;
    client.expect(replies).await;
    assert_eq!(client.counted(|counters| &counters.requests), 3);
    assert_eq!(client.counted(|counters| &counters.replies), 3);
    assert_eq!(client.counted(|counters| &counters.connections), 1);
    assert_eq!(
        client.counted(|counters| &counters.bytes_sent),
        pipeline.len() as u64
    );
    assert_eq!(
        client.counted(|counters| &counters.bytes_received),
        replies.len() as u64
    );
}

#[tokio::test]
async fn what_was_read_before_comes_first() {
    let fake = FakeUpstream::new().await;
    let url = format!("redis://{}", fake.address()).parse().unwrap();
    let upstream = Arc::new(Upstream::new(url, None, PATIENCE));
    let (mut peer, served) = duplex(1024);
    let (_control, stop) = watch::channel(Stop::No);
    tokio::spawn(run(served, b"GET a\r\nGE".to_vec(), upstream, stop));
    peer.write_all(b"T b\r\n").await.unwrap();
    fake.accept().await.expect("GET a\r\nGET b\r\n").await;
}

#[tokio::test]
async fn a_request_is_held_until_it_is_complete() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("*2\r\n$3\r\nGET\r\n$1\r\n").await;
    client.send("k\r\n").await;
    upstream.expect("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").await;
}

#[tokio::test]
async fn a_long_request_passes_through_in_pieces() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    let value = vec![b'x'; 3 << 20];
    let header = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len());
    client.send(&header).await;
    upstream.expect(&header).await;
    let (send, receive) = (client.peer.send(&value), upstream.expect(&value));
    tokio::join!(send, receive);
    client.send("\r\nGET k\r\n").await;
    upstream.expect("\r\nGET k\r\n").await;
    upstream.send("+OK\r\n:1\r\n").await;
    client.expect("+OK\r\n:1\r\n").await;
}

#[tokio::test]
async fn a_long_request_whose_upstream_dies_is_thrown_away_whole() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client
        .send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nGET a\r\n")
        .await;
    upstream
        .expect("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nGET a\r\n")
        .await;
    drop(upstream);
    client.expect(lost(&fake)).await;
    client.send(&b"GET b\r\n".repeat(142_856)).await;
    client.send("x\r\nGET c\r\n").await;
    fake.accept().await.expect("GET c\r\n").await;
}

#[tokio::test]
async fn a_client_may_take_its_time_over_a_long_request() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, SHORT).await;
    client
        .send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n")
        .await;
    upstream
        .expect("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n")
        .await;
    tokio::time::sleep(SHORT * 3).await;
    let rest = [&vec![b'x'; 100_000][..], b"\r\n"].concat();
    client.send(&rest).await;
    upstream.expect(&rest).await;
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
}

#[tokio::test]
async fn what_is_pipelined_before_a_half_close_is_answered() {
    let fake = FakeUpstream::new().await;
    let mut client = fake.client();
    client.send("GET a\r\nGET b\r\nGET incompl").await;
    client.half_close().await;
    let mut upstream = fake.accept().await;
    upstream.expect("GET a\r\nGET b\r\n").await;
    upstream.send("$1\r\na\r\n").await;
    client.expect("$1\r\na\r\n").await;
    upstream.send("$1\r\nb\r\n").await;
    client.expect("$1\r\nb\r\n").await;
    assert_eq!(client.ended().await, Ended::ClientClosed);
    upstream.expect_end().await;
}

#[tokio::test]
async fn a_blocked_client_that_closes_takes_nothing_from_the_upstream_any_more() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\nBLPOP k 0\r\n").await;
    upstream.expect("GET a\r\nBLPOP k 0\r\n").await;
    client.half_close().await;
    upstream.send("$1\r\na\r\n").await;
    client.expect("$1\r\na\r\n").await;
    upstream.expect_end().await;
    drop(upstream);
    client.ended().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_upstream_connection_along() {
    let fake = FakeUpstream::new().await;
    let (client, mut upstream) = connected(&fake, PATIENCE).await;
    drop(client.peer);
    upstream.expect_end().await;
    assert_eq!(soon(client.served).await.unwrap(), Ended::ClientClosed);
}

#[tokio::test]
async fn quit_is_forwarded_answered_and_the_end() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\nQUIT\r\nGET b\r\n").await;
    upstream.expect("GET a\r\nQUIT\r\n").await;
    upstream.send("$-1\r\n+OK\r\n").await;
    client.expect("$-1\r\n+OK\r\n").await;
    upstream.expect_end().await;
    assert_eq!(client.ended().await, Ended::Quit);
}

#[tokio::test]
async fn quit_needs_no_upstream() {
    let fake = FakeUpstream::new().await;
    let mut client = fake.client();
    client.send("quit\r\n").await;
    client.expect("+OK\r\n").await;
    assert_eq!(client.counted(|counters| &counters.connections), 0);
    assert_eq!(client.ended().await, Ended::Quit);
}

#[tokio::test]
async fn client_reply_is_counted_as_the_upstream_counts_it() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    let ask = "CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\nCLIENT REPLY OFF\r\nGET a\r\n\
               CLIENT REPLY SKIP\r\nGET a\r\nCLIENT REPLY ON\r\nGET b\r\n";
    client.send(ask).await;
    upstream.expect(ask).await;
    upstream.send("$1\r\n1\r\n+OK\r\n").await;
    drop(upstream);
    client
        .expect(format!("$1\r\n1\r\n+OK\r\n{}", lost(&fake)))
        .await;
    client.send("GET c\r\n").await;
    fake.accept().await.expect("GET c\r\n").await;
}

#[tokio::test]
async fn a_client_without_replies_ends_with_the_upstream_without_a_word() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("CLIENT REPLY OFF\r\nSET a 1\r\n").await;
    upstream.expect("CLIENT REPLY OFF\r\nSET a 1\r\n").await;
    drop(upstream);
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn subscriptions_are_confirmed_once_per_channel_and_messages_are_not_counted() {
    for kind in ['*', '>'] {
        let fake = FakeUpstream::new().await;
        let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
        let word = |word: &str, channel: &str, count: u8| {
            let (len, of) = (word.len(), channel.len());
            format!("{kind}3\r\n${len}\r\n{word}\r\n${of}\r\n{channel}\r\n:{count}\r\n")
        };
        let message = format!("{kind}3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
        let subscribed = [
            word("subscribe", "a", 1),
            message.clone(),
            word("subscribe", "b", 2),
            word("subscribe", "b", 2),
            word("psubscribe", "c*", 3),
            message.clone(),
        ];
        let ask = "SUBSCRIBE a b b\r\nPSUBSCRIBE c*\r\n";
        exchange(&mut client, &mut upstream, ask, &subscribed.concat()).await;
        let unsubscribed = [
            word("unsubscribe", "a", 2),
            message.clone(),
            word("unsubscribe", "b", 1),
            "*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_owned(),
            word("punsubscribe", "c*", 0),
            word("unsubscribe", "x", 0),
        ];
        let ask = "UNSUBSCRIBE\r\nPING\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE x\r\n";
        exchange(&mut client, &mut upstream, ask, &unsubscribed.concat()).await;
        // All counted well: one reply is owed, and no subscription is left to lose.
        client.send("GET a\r\n").await;
        upstream.expect("GET a\r\n").await;
        drop(upstream);
        client.expect(lost(&fake)).await;
        client.send("GET b\r\n").await;
        fake.accept().await.expect("GET b\r\n").await;
    }
}

#[tokio::test]
async fn a_subscriber_has_no_timeout() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, SHORT).await;
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    exchange(&mut client, &mut upstream, "SUBSCRIBE a\r\n", confirmed).await;
    tokio::time::sleep(SHORT * 3).await;
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
    exchange(&mut client, &mut upstream, "", message).await;
}

#[tokio::test]
async fn a_refused_subscription_is_one_error() {
    survives_the_upstream(&[
        ("SUBSCRIBE a b\r\n", "-NOPERM no\r\n"),
        ("GET a\r\n", "+a\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn replication_is_a_stream_of_bytes() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, SHORT).await;
    let ask = "GET a\r\nPSYNC ? -1\r\n";
    exchange(
        &mut client,
        &mut upstream,
        ask,
        "$1\r\na\r\n\n\n+FULLRESYNC x 0\r\n$3\r\nRDB",
    )
    .await;
    exchange(
        &mut client,
        &mut upstream,
        "REPLCONF ACK 1\r\n*half",
        "*1\r\n$4\r\nPI",
    )
    .await;
    drop(upstream);
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn a_malformed_request_gets_the_upstreams_own_error() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\n*1\r\n#4\r\nwhat").await;
    upstream.expect("GET a\r\n*1\r\n#4\r\nwhat").await;
    upstream
        .send("$1\r\na\r\n-ERR Protocol error: expected '$', got '#'\r\n")
        .await;
    drop(upstream);
    client
        .expect("$1\r\na\r\n-ERR Protocol error: expected '$', got '#'\r\n")
        .await;
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn a_malformed_request_without_an_upstream_gets_our_error() {
    let fake = FakeUpstream::new().await;
    let refused = format!(
        "-ERR upstream {} refused the connection\r\n",
        fake.address()
    );
    let mut client = fake.client();
    drop(fake);
    client.send("GET a\r\n*x\r\n").await;
    client
        .expect(refused + "-ERR Protocol error: invalid multibulk length\r\n")
        .await;
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn a_shutdown_that_succeeds_has_no_reply() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("SHUTDOWN NOSAVE\r\n").await;
    upstream.expect("SHUTDOWN NOSAVE\r\n").await;
    drop(upstream);
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn what_is_no_reply_passes_through_all_the_same() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    exchange(
        &mut client,
        &mut upstream,
        "GET a\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
    )
    .await;
    exchange(&mut client, &mut upstream, "?", "!").await;
    drop(upstream);
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}
