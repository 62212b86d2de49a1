//! The upstream refuses, is silent or dies: what is answered, what is told again, and who ends.

use super::*;

#[tokio::test]
async fn a_refusal_answers_every_request_and_the_client_stays() {
    let fake = FakeUpstream::new().await;
    let address = fake.address();
    let mut client = fake.client();
    drop(fake);
    let refused = format!("-ERR upstream {address} refused the connection\r\n");
    client.send("GET a\r\nMULTI\r\nINCR a\r\nEXEC\r\n").await;
    client.expect(refused.repeat(4)).await;
    assert_eq!(client.counted(|counters| &counters.connect_failures), 1);
    assert_eq!(client.counted(|counters| &counters.errors), 4);
    let fake = FakeUpstream(TcpListener::bind(&address).await.unwrap());
    client.send("GET a\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("GET a\r\n").await;
    upstream.send("$1\r\nv\r\n").await;
    client.expect("$1\r\nv\r\n").await;
}

#[tokio::test]
async fn a_refused_request_that_others_rely_on_ends_the_client() {
    for request in [
        "SELECT 1",
        "MULTI",
        "WATCH k",
        "SUBSCRIBE c",
        "AUTH p",
        "CLIENT REPLY OFF",
    ] {
        let fake = FakeUpstream::new().await;
        let refused = format!(
            "-ERR upstream {} refused the connection\r\n",
            fake.address()
        );
        let mut client = fake.client();
        drop(fake);
        client.send(format!("{request}\r\n")).await;
        client.expect(&refused).await;
        assert_eq!(client.ended().await, Ended::UpstreamLost, "{request}");
    }
}

#[tokio::test]
async fn silence_answers_what_is_owed_and_the_client_stays() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, SHORT).await;
    client.send("GET a\r\nGET b\r\n").await;
    upstream.expect("GET a\r\nGET b\r\n").await;
    let silent = format!(
        "-ERR upstream {} did not answer within 60ms\r\n",
        fake.address()
    );
    client.expect(silent.repeat(2)).await;
    upstream.expect_end().await;
    assert_eq!(client.counted(|counters| &counters.timeouts), 1);
    client.send("GET c\r\n").await;
    fake.accept().await.expect("GET c\r\n").await;
}

#[tokio::test]
async fn a_silent_handshake_counts_as_a_connection_that_failed() {
    let fake = FakeUpstream::new().await;
    let url = format!("redis://:p@{}", fake.address()).parse().unwrap();
    let upstream = Upstream::new(url, None, SHORT);
    let error = upstream.connect().await.err().unwrap().to_string();
    assert_eq!(
        error,
        format!("{} could not be reached within 60ms", fake.address())
    );
}

#[tokio::test]
async fn a_blocking_command_may_take_longer_than_the_timeout() {
    for request in [
        "BLPOP k 0\r\n",
        "xread block 0 streams s $\r\n",
        "WAIT 1 0\r\n",
    ] {
        let fake = FakeUpstream::new().await;
        let (mut client, mut upstream) = connected(&fake, SHORT).await;
        client.send(request).await;
        upstream.expect(request).await;
        tokio::time::sleep(SHORT * 3).await;
        upstream.send("*-1\r\n").await;
        client.expect("*-1\r\n").await;
    }
}

#[tokio::test]
async fn nothing_that_may_have_arrived_is_sent_again() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("INCR a\r\n").await;
    upstream.expect("INCR a\r\n").await;
    drop(upstream);
    client.expect(lost(&fake)).await;
    client.send("GET a\r\n").await;
    fake.accept().await.expect("GET a\r\n").await;
}

#[tokio::test]
async fn replies_that_came_in_time_are_delivered_before_the_errors() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\nGET b\r\nGET c\r\n").await;
    upstream.expect("GET a\r\nGET b\r\nGET c\r\n").await;
    upstream.send("$1\r\na\r\n>1\r\n+push\r\n").await;
    drop(upstream);
    client
        .expect(format!(
            "$1\r\na\r\n>1\r\n+push\r\n{}",
            lost(&fake).repeat(2)
        ))
        .await;
}

#[tokio::test]
async fn a_reply_cut_in_the_middle_ends_the_client() {
    let fake = FakeUpstream::new().await;
    let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
    client.send("GET a\r\nGET b\r\n").await;
    upstream.expect("GET a\r\nGET b\r\n").await;
    upstream.send("$10\r\nabc").await;
    drop(upstream);
    client.expect("$10\r\nabc").await;
    assert_eq!(client.ended().await, Ended::UpstreamLost);
}

#[tokio::test]
async fn an_idle_upstream_that_ends_is_replaced_by_the_next_request() {
    survives_the_upstream(&[]).await;
    survives_the_upstream(&[("GET a\r\n", "$-1\r\n")]).await;
    survives_the_upstream(&[
        ("WATCH a\r\n", "+OK\r\n"),
        ("MULTI\r\n", "+OK\r\n"),
        ("GET a\r\n", "+QUEUED\r\n"),
        ("EXEC\r\n", "*1\r\n$-1\r\n"),
    ])
    .await;
    survives_the_upstream(&[("CLIENT KILL ID 5\r\n", ":1\r\n"), ("GET a\r\n", "$-1\r\n")]).await;
    survives_the_upstream(&[("WATCH a\r\n", "+OK\r\n"), ("UNWATCH\r\n", "+OK\r\n")]).await;
}

#[tokio::test]
async fn state_that_cannot_be_told_again_ends_with_the_upstream() {
    dies_with_the_upstream(&[("MULTI\r\n", "+OK\r\n")]).await;
    dies_with_the_upstream(&[("WATCH a\r\n", "+OK\r\n")]).await;
    dies_with_the_upstream(&[("CLIENT TRACKING ON\r\n", "+OK\r\n")]).await;
    dies_with_the_upstream(&[(
        "SUBSCRIBE c\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
    )])
    .await;
    dies_with_the_upstream(&[(
        "PSUBSCRIBE c\r\n",
        ">3\r\n$10\r\npsubscribe\r\n$1\r\nc\r\n:1\r\n",
    )])
    .await;
    dies_with_the_upstream(&[("MONITOR\r\n", "+OK\r\n"), ("", "+1.0 [0 x] \"get\"\r\n")]).await;
    dies_with_the_upstream(&[("REPLCONF listening-port 1\r\n", "+OK\r\n")]).await;
    dies_with_the_upstream(&[("CLIENT KILL SKIPME NO\r\n", ":1\r\n")]).await;
}

#[tokio::test]
async fn an_unanswered_request_that_others_rely_on_ends_the_client() {
    for request in ["SELECT 1\r\n", "BLPOP k 0\r\n", "HELLO 3\r\n", "MULTI\r\n"] {
        let fake = FakeUpstream::new().await;
        let (mut client, mut upstream) = connected(&fake, PATIENCE).await;
        client.send(request).await;
        upstream.expect(request).await;
        drop(upstream);
        client.expect(lost(&fake)).await;
        assert_eq!(client.ended().await, Ended::UpstreamLost, "{request}");
    }
}

#[tokio::test]
async fn a_session_is_told_again_as_far_as_it_was_confirmed() {
    let fake = FakeUpstream::new().await;
    let url = format!("redis://:url@{}/2", fake.address());
    let mut client = Client::of(&url, PATIENCE, 1 << 16);
    client.send("SELECT 4\r\n").await;
    let mut upstream = fake.accept().await;
    let own = "*2\r\n$4\r\nAUTH\r\n$3\r\nurl\r\n*2\r\n$6\r\nsELECT\r\n$1\r\n2\r\n";
    upstream.expect(own).await;
    upstream.send("+OK\r\n+OK\r\n").await;
    upstream.expect("SELECT 4\r\n").await;
    upstream.send("+OK\r\n").await;
    client.expect("+OK\r\n").await;
    for (ask, answer) in [
        ("client setname me\r\n", "+OK\r\n"),
        ("HELLO 3 AUTH ann pw SETNAME you\r\n", "%0\r\n"),
        ("SELECT 99\r\n", "-ERR DB index is out of range\r\n"),
        ("AUTH ann wrong\r\n", "-WRONGPASS\r\n"),
        ("SELECT 5\r\n", "+OK\r\n"),
        ("CLIENT SETINFO lib-name x\r\n", "+OK\r\n"),
    ] {
        exchange(&mut client, &mut upstream, ask, answer).await;
    }
    drop(upstream);
    client.knows_of_the_loss().await;
    client.send("GET a\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect(own).await;
    upstream
        .expect("*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n")
        .await;
    upstream.expect("*2\r\n$5\r\nhELLO\r\n$1\r\n3\r\n").await;
    upstream
        .expect("*3\r\n$6\r\ncLIENT\r\n$7\r\nSETNAME\r\n$3\r\nyou\r\n")
        .await;
    upstream
        .expect("*4\r\n$6\r\ncLIENT\r\n$7\r\nSETINFO\r\n$8\r\nlib-name\r\n$1\r\nx\r\n")
        .await;
    upstream.expect("*2\r\n$6\r\nsELECT\r\n$1\r\n5\r\n").await;
    upstream
        .send("+OK\r\n+OK\r\n+OK\r\n%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n+OK\r\n")
        .await;
    upstream.expect("GET a\r\n").await;
    upstream.send("_\r\n").await;
    client.expect("_\r\n").await;
}

#[tokio::test]
async fn a_session_that_is_rejected_is_said_so() {
    let fake = FakeUpstream::new().await;
    let mut client = Client::of(&format!("redis://:p@{}", fake.address()), PATIENCE, 1024);
    client.send("GET a\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect("*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n").await;
    upstream.send("-WRONGPASS invalid\r\n").await;
    let address = fake.address();
    client
        .expect(format!(
            "-ERR upstream {address} rejected AUTH: WRONGPASS invalid\r\n"
        ))
        .await;
}

#[tokio::test]
async fn reset_brings_back_what_the_url_asks_for() {
    let fake = FakeUpstream::new().await;
    let mut client = Client::of(&format!("redis://{}/7", fake.address()), PATIENCE, 1024);
    client.send("SELECT 1\r\nRESET\r\nGET a\r\n").await;
    let mut upstream = fake.accept().await;
    let select = "*2\r\n$6\r\nsELECT\r\n$1\r\n7\r\n";
    upstream.expect(select).await;
    upstream.send("+OK\r\n").await;
    upstream.expect("SELECT 1\r\nRESET\r\n").await;
    upstream.send("+OK\r\n+RESET\r\n").await;
    client.expect("+OK\r\n+RESET\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.expect(select).await;
    upstream.send("+OK\r\n").await;
    upstream.expect("GET a\r\n").await;
}
