//! Messages of a topic of Kafka, read as a consumer of a group.
//!
//! Committed when they are done, so what was read and not done comes again. A group that is new is
//! said to have read all that there is, before it begins; from then on, where nothing is committed
//! of a partition it is a new one, and is read from its beginning. The client connects again by
//! itself; it is made anew only when it says that it cannot go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use tokio::task::spawn_blocking;

use super::feed::{BATCH_MAX, Batch, Feed, Opened};
use super::message::{MESSAGE_BYTES_MAX, Message, Unusable};
use crate::config::rules::KafkaSpec;

/// How long brokers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// After so many ms without a word, brokers give the partitions of a consumer to others.
const SESSION_MS: &str = "10000";
/// What the client may read ahead, in KiB.
const READ_AHEAD_KIB: &str = "8192";

/// A consumer of a group.
pub(super) struct Kafka {
    spec: KafkaSpec,
    consumer: Option<Arc<StreamConsumer>>,
    /// Of each partition, the offset behind what was taken last.
    taken: HashMap<i32, i64>,
}

impl Kafka {
    pub(super) fn new(spec: &KafkaSpec) -> Self {
        Self {
            spec: spec.clone(),
            consumer: None,
            taken: HashMap::new(),
        }
    }

    fn connect(&self) -> Result<StreamConsumer, KafkaError> {
        ClientConfig::new()
            .set("bootstrap.servers", self.spec.brokers.join(","))
            .set("group.id", &self.spec.group)
            .set("client.id", "corral")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", SESSION_MS)
            .set("queued.max.messages.kbytes", READ_AHEAD_KIB)
            .create()
    }

    /// Takes what has come, waiting for the first message.
    async fn take(&mut self, consumer: &StreamConsumer, batch: &mut Batch) -> Result<(), String> {
        let mut next = match consumer.recv().await {
            Err(error) if is_passing(&error) => return Ok(()),
            first => Some(first),
        };
        while let Some(message) = next.take() {
            let message = message.map_err(|error| error.to_string())?;
            self.taken.insert(message.partition(), message.offset() + 1);
            batch.push(read(&message));
            if batch.len() < BATCH_MAX {
                next = consumer.recv().now_or_never().filter(Result::is_ok);
            }
        }
        Ok(())
    }
}

/// Has a group that never read the topic begin where that ends now. Blocks.
fn begin(consumer: &StreamConsumer, topic: &str) -> Result<(), KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
    let mut ends = TopicPartitionList::new();
    for known in metadata.topics() {
        for partition in known.partitions() {
            ends.add_partition(topic, partition.id());
        }
    }
    if ends.count() == 0 {
        let code = RDKafkaErrorCode::UnknownTopicOrPartition;
        return Err(KafkaError::MetadataFetch(code));
    }
    let committed = consumer.committed_offsets(ends.clone(), ANSWER_MAX)?;
    let is_read = |offset: Offset| matches!(offset, Offset::Offset(_));
    if committed.elements().iter().any(|of| is_read(of.offset())) {
        return Ok(());
    }
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|known| known.partitions())
    {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), ANSWER_MAX)?;
        ends.set_partition_offset(topic, partition.id(), Offset::Offset(end))?;
    }
    match consumer.commit(&ends, CommitMode::Sync) {
        // Others of the group are there, and have done so.
        Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::RebalanceInProgress,
        )) => Ok(()),
        done => done,
    }
}

/// Whether the client goes on by itself after such an error.
fn is_passing(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else {
        return false;
    };
    matches!(
        code,
        RDKafkaErrorCode::PartitionEOF
            | RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::OperationTimedOut
    )
}

fn read(message: &impl rdkafka::Message) -> Result<Message, Unusable> {
    let (key, payload) = (message.key(), message.payload());
    let bytes = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Unusable::TooLong);
    }
    Ok(Message {
        whole: key.unwrap_or_default().to_vec(),
        captures: Vec::new(),
        payload: payload.map(<[u8]>::to_vec),
        fields: None,
    })
}

/// What a call gives that blocks.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(call).await {
        Ok(given) => given.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl Feed for Kafka {
    async fn open(&mut self) -> Result<Opened, String> {
        // What was not done comes again.
        self.taken.clear();
        if let Some(before) = self.consumer.take() {
            // It leaves its group, which takes as long as brokers take to answer.
            blocking(move || {
                drop(before);
                Ok(())
            })
            .await?;
        }
        let consumer = Arc::new(self.connect().map_err(|error| error.to_string())?);
        let (asking, topic) = (Arc::clone(&consumer), self.spec.topic.clone());
        blocking(move || {
            begin(&asking, &topic)?;
            asking.subscribe(&[&topic])
        })
        .await?;
        self.consumer = Some(consumer);
        Ok(Opened::Resumed)
    }

    async fn next(&mut self, batch: &mut Batch) -> Result<(), String> {
        let Some(consumer) = self.consumer.clone() else {
            return Err("is not connected".to_owned());
        };
        self.take(&consumer, batch).await
    }

    async fn done(&mut self) -> Result<(), String> {
        let Some(consumer) = self.consumer.clone() else {
            return Err("is not connected".to_owned());
        };
        if self.taken.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in self.taken.drain() {
            let offset = Offset::Offset(offset);
            let added = offsets.add_partition_offset(&self.spec.topic, partition, offset);
            added.map_err(|error| error.to_string())?;
        }
        blocking(move || consumer.commit(&offsets, CommitMode::Sync)).await
    }
}
