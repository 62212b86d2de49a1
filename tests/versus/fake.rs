//! Upstreams that are no Redis: what they answer, and when, is the test's to say.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

/// Answers, over each connection to this port, what it is sent; an error ends the connection.
/// Returns the port, which is a free one if it was 0.
pub(crate) fn answer(
    port: u16,
    reply: impl Fn(&mut TcpStream, &[u8]) -> io::Result<()> + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let address = listener.local_addr().expect("an address");
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let reply = Arc::clone(&reply);
            std::thread::spawn(move || {
                let mut bytes = [0; 16 * 1024];
                while let Ok(len @ 1..) = stream.read(&mut bytes) {
                    if reply(&mut stream, &bytes[..len]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address.port()
}

/// The reply to each of these requests from what does not know HELLO, and so tells no changes.
pub(crate) fn without_hello<'a>(requests: &[u8], reply: &'a str) -> &'a str {
    let hello = b"*2\r\n$5\r\nHELLO";
    let start = requests.get(..hello.len());
    if start.is_some_and(|start| start.eq_ignore_ascii_case(hello)) {
        "-ERR unknown command 'HELLO'\r\n"
    } else {
        reply
    }
}

/// Each request is an array.
pub(crate) fn number_of_requests(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'*', bytes).count()
}
