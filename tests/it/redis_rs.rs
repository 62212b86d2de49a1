//! The `redis` crate against the server: what most Rust programs would do.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Client, RedisResult, Value, cmd, pipe};

use crate::common::TestServer;

async fn connect(server: &TestServer, query: &str) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(format!("redis://127.0.0.1:{}/{query}", server.port))?;
    client.get_multiplexed_async_connection().await
}

#[tokio::test]
async fn values_are_written_and_read() {
    let server = TestServer::start();
    let mut redis = connect(&server, "").await.unwrap();
    let () = redis.set("k", "v").await.unwrap();
    let () = redis.set_ex("short", &[0_u8, 255], 100).await.unwrap();
    let value: Option<String> = redis.get("k").await.unwrap();
    assert_eq!(value.as_deref(), Some("v"));
    let short: Vec<u8> = redis.get("short").await.unwrap();
    assert_eq!(short, [0, 255]);
    let seconds: i64 = redis.ttl("short").await.unwrap();
    assert_eq!(seconds, 100);
    let number: i64 = redis.incr("n", 41).await.unwrap();
    assert_eq!(number, 41);
    let values: Vec<Option<String>> = redis.mget(&["k", "x"]).await.unwrap();
    assert_eq!(values, [Some("v".to_owned()), None]);
    let deleted: i64 = redis.del(&["k", "n", "x"]).await.unwrap();
    assert_eq!(deleted, 2);
}

#[tokio::test]
async fn a_pipeline_comes_back_in_order() {
    let server = TestServer::start();
    let mut redis = connect(&server, "").await.unwrap();
    let mut pipeline = pipe();
    for number in 0..1000 {
        pipeline.set(number, number).ignore().get(number);
    }
    let numbers: Vec<i64> = pipeline.query_async(&mut redis).await.unwrap();
    assert!(numbers.into_iter().eq(0..1000));
}

#[tokio::test]
async fn a_transaction_comes_back_whole() {
    let server = TestServer::start();
    let mut redis = connect(&server, "").await.unwrap();
    let mut transaction = pipe();
    transaction.atomic().incr("n", 1).incr("n", 1).get("n");
    let replies: (i64, i64, String) = transaction.query_async(&mut redis).await.unwrap();
    assert_eq!(replies, (1, 2, "2".to_owned()));
}

#[tokio::test]
async fn an_error_comes_back_as_one() {
    let server = TestServer::start();
    let mut redis = connect(&server, "").await.unwrap();
    let () = redis.set("k", "text").await.unwrap();
    let failed: RedisResult<i64> = redis.incr("k", 1).await;
    let error = failed.expect_err("no number").to_string();
    assert!(
        error.contains("value is not an integer or out of range"),
        "{error}"
    );
}

#[tokio::test]
async fn the_newer_dialect_is_spoken() {
    let server = TestServer::start();
    let mut redis = connect(&server, "?protocol=resp3").await.unwrap();
    let missing: Value = cmd("GET")
        .arg("nosuch")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(missing, Value::Nil);
    for request in [
        cmd("HELLO"),
        cmd("CONFIG").arg(&["GET", "maxmemory"]).to_owned(),
    ] {
        let reply: Value = request.query_async(&mut redis).await.unwrap();
        assert!(matches!(reply, Value::Map(_)), "{reply:?}");
    }
}

#[tokio::test]
async fn it_logs_in_and_chooses_its_database() {
    let server = TestServer::with(&[("requirepass", "secret")]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/5", server.port);
    let right = Client::open(url("secret")).unwrap();
    let mut redis = right.get_multiplexed_async_connection().await.unwrap();
    let line: String = cmd("CLIENT")
        .arg("INFO")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(line.contains(" db=5 "), "{line}");
    let wrong = Client::open(url("wrong")).unwrap();
    assert!(wrong.get_multiplexed_async_connection().await.is_err());
}
