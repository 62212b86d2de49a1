//! Bytes on their way from one socket to another.
//!
//! Read into, looked at and written out in place, so nothing is copied but what is left over when
//! the front has gone. Small while little is under way, bounded by twice what its owner asks for.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room of a buffer that something is read into for the first time, as Redis has it. It doubles as
/// it fills up.
const ROOM_BYTES_FIRST: usize = 16 * 1024;

/// A queue of bytes in one piece.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All of it initialized; what is queued is in the middle.
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer that holds `bytes`.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self {
            start: 0,
            end: bytes.len(),
            room: bytes,
        }
    }

    /// Its memory, to be used for something else; what is queued is lost.
    pub(crate) fn into_room(mut self) -> Vec<u8> {
        self.room.clear();
        self.room
    }

    /// What is queued.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    /// Bytes queued.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops bytes from the front.
    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.len(), "only what is queued can go");
        self.start += len;
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Puts other bytes in the place of some that are queued.
    pub(crate) fn replace(&mut self, range: Range<usize>, bytes: &[u8]) {
        let range = self.start + range.start..self.start + range.end;
        let removed = range.len();
        self.room.truncate(self.end);
        self.room.splice(range, bytes.iter().copied());
        self.end = self.end - removed + bytes.len();
    }

    /// Drops bytes from the back.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Gives the memory back, if nothing is queued and it is more than a small request needs.
    pub(crate) fn relax(&mut self) {
        if self.is_empty() && self.room.len() > ROOM_BYTES_FIRST {
            self.room = Vec::new();
        }
    }

    /// Gives all memory back, if nothing is queued.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Bytes of memory it holds.
    pub(crate) fn room(&self) -> usize {
        self.room.len()
    }

    /// Queues bytes of our own.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.room.truncate(self.end);
        self.room.extend_from_slice(bytes);
        self.end = self.room.len();
    }

    /// Reads once, so that no more than `len_max` bytes are queued afterwards. There must be
    /// fewer now. Returns how many were read; 0 is the end.
    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin + ?Sized),
        len_max: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.len() < len_max, "there is no room to read into");
        self.make_room(len_max);
        let room_end = self.room.len().min(self.start + len_max);
        let mut room = ReadBuf::new(&mut self.room[self.end..room_end]);
        ready!(Pin::new(source).poll_read(context, &mut room))?;
        let read = room.filled().len();
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// Writes the first `len` of the queued bytes, or some of them, and drops those.
    pub(crate) fn poll_drain(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin + ?Sized),
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let bytes = &self.room[self.start..self.start + len];
        let written = ready!(Pin::new(sink).poll_write(context, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.consume(written);
        Poll::Ready(Ok(written))
    }

    /// Makes room behind the queued bytes: by moving them to the front if they fill no more than
    /// half of it, else by doubling it. So no byte is moved more than once on average, and the
    /// room is at most twice what may be queued.
    fn make_room(&mut self, len_max: usize) {
        if self.end < self.room.len() {
            return;
        }
        if self.start > 0 && self.start >= self.room.len() / 2 {
            self.room.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return;
        }
        if self.room.is_empty() {
            // Zeroed by the kernel, so what a small request does not touch costs nothing.
            self.room = vec![0; ROOM_BYTES_FIRST.min(len_max)];
            return;
        }
        let doubled = (self.room.len() * 2).min(len_max * 2);
        self.room.resize(doubled.max(self.end + 1), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn fill(buffer: &mut Buffer, mut source: &[u8], len_max: usize) -> usize {
        poll_fn(|context| buffer.poll_fill(context, &mut source, len_max))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn never_more_is_queued_than_asked_for() {
        let mut buffer = Buffer::default();
        let source = vec![7; 100_000];
        let mut queued = 0;
        while queued < 20_000 {
            queued += fill(&mut buffer, &source, 20_000).await;
            assert_eq!(buffer.len(), queued);
        }
        assert_eq!(buffer.len(), 20_000);
        assert!(buffer.room.len() <= 40_000);
    }

    #[tokio::test]
    async fn what_is_read_comes_out_in_order() {
        let mut buffer = Buffer::of(b"ab".to_vec());
        let mut sent = b"ab".to_vec();
        let mut drained = Vec::new();
        for round in 0..2000_usize {
            let bytes: Vec<u8> = (0..round % 37)
                .map(|at| u8::try_from(at).unwrap())
                .collect();
            if !bytes.is_empty() && buffer.len() < 64 {
                let read = fill(&mut buffer, &bytes, 64).await;
                sent.extend_from_slice(&bytes[..read]);
            }
            let len = buffer.len().min(round % 13);
            if len > 0 {
                poll_fn(|context| buffer.poll_drain(context, &mut drained, len))
                    .await
                    .unwrap();
            }
            if round % 100 == 0 {
                buffer.extend(b"own");
                sent.extend_from_slice(b"own");
            }
        }
        drained.extend_from_slice(buffer.bytes());
        assert_eq!(drained, sent);
    }

    #[tokio::test]
    async fn an_empty_buffer_gives_its_memory_back() {
        let mut buffer = Buffer::of(vec![0; 100_000]);
        buffer.relax();
        assert_eq!(buffer.len(), 100_000);
        buffer.consume(100_000);
        buffer.relax();
        assert_eq!(buffer.room.capacity(), 0);
    }
}
