//! Clients of a front that come to have a connection of their own: what that costs them and others.

use super::common::Server;
use super::near::{coherent, number_of};

#[test]
fn what_is_about_the_server_waits_for_no_change_of_keys() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    let before = number_of(&front, "fences");
    for words in [
        "CONFIG SET slowlog-max-len 100",
        "SLOWLOG RESET",
        "CLIENT NO-EVICT ON",
        "ACL WHOAMI",
        "LATENCY RESET",
        "INFO server",
    ] {
        let reply = client.say(words);
        assert!(!reply.starts_with('-'), "{words}: {reply}");
    }
    assert_eq!(number_of(&front, "fences"), before);
    client.say("OBJECT FREQ k");
    assert!(
        number_of(&front, "fences") > before,
        "OBJECT tells of a key"
    );
}
