//! A topic of Kafka, over the sockets of the cluster that its client brings for tests.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

use crate::bed::{Bed, figure, put, there, until};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("changes", 3, 1).expect("a topic");
    cluster
}

fn event(cluster: &Cluster) -> String {
    let brokers: Vec<String> = cluster
        .bootstrap_servers()
        .split(',')
        .map(|broker| format!("\"{broker}\""))
        .collect();
    format!(
        "[[event]]\nname = \"e\"\nkind = \"kafka\"\nbrokers = [{}]\ntopic = \"changes\"\n\
         group = \"g\"\nkeys = [\"order:{{key}}\", \"user:{{user}}\"]\n",
        brokers.join(",")
    )
}

fn producer(cluster: &Cluster) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    config.create().expect("a producer")
}

async fn say(producer: &FutureProducer, key: &str, payload: &str) {
    let record = FutureRecord::to("changes").key(key).payload(payload);
    let sent = producer.send(record, Duration::from_secs(10)).await;
    sent.expect("it is taken");
}

#[tokio::test]
async fn a_message_is_committed_when_it_is_done_and_what_follows_is_done_after_a_restart() {
    let cluster = cluster();
    let producer = producer(&cluster);
    // From before there was a group.
    for number in 0..20 {
        say(&producer, &number.to_string(), "{\"user\": \"ann\"}").await;
    }
    let bed = Bed::new(&event(&cluster));
    let mut server = bed.server();
    let mut client = server.connect();
    put(&mut client, &["order:7", "user:ann", "order:8"]);
    say(&producer, "7", "{\"user\": \"ann\"}").await;
    until("it is done", || figure(&server, 0, "removed") == 2);
    assert_eq!(
        there(&mut client, &["order:7", "user:ann", "order:8"]),
        ["order:8"]
    );
    say(&producer, "8", "no json").await;
    until("it is gone", || there(&mut client, &["order:8"]).is_empty());
    assert_eq!(
        (
            figure(&server, 0, "received"),
            figure(&server, 0, "unusable")
        ),
        (2, 1)
    );

    server.signal("TERM");
    assert!(server.process.wait().expect("a child").success());
    for number in 0..20 {
        say(&producer, &number.to_string(), "{\"user\": \"x\"}").await;
    }
    let server = bed.server();
    until("all is done", || figure(&server, 0, "received") == 20);
    assert_eq!(
        (figure(&server, 0, "keys"), figure(&server, 0, "swept")),
        (40, 0)
    );
}

#[test]
fn without_a_broker_it_says_so_and_tries_again() {
    let text = "[[event]]\nname = \"e\"\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n\
                topic = \"t\"\ngroup = \"g\"\nkeys = [\"k\"]\n";
    let bed = Bed::new(text);
    let server = bed.unconnected(&[]);
    until("it is lost", || figure(&server, 0, "lost") > 0);
    assert!(bed.log().contains("no events come"), "{}", bed.log());
}
