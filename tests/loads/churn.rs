//! Clients that come, ask, write and go, in any order.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::bench::Bench;
use crate::common::{Client, until};

const CLIENTS_MAX: usize = 24;
const STEPS: usize = 1500;

/// What a client may send: reads that wait, writes that let others go on, and both in a pipeline.
const REQUESTS: &[&str] = &[
    "GET o:1\r\n",
    "GET o:bad\r\n",
    "GET o:none\r\n",
    "MGET o:1 o:2 o:bad l:1\r\n",
    "GET l:1\r\n",
    "GET l:2\r\n",
    "MGET l:1 l:2 l:3 l:1\r\n",
    "MGET l:3 l:2 l:1\r\n",
    "GET l:1\r\nSET l:1 v PX 20\r\nGET l:2\r\nGET o:2\r\n",
    "SET l:2 v PX 20\r\n",
    "SET l:3 v PX 20 DELTA 10\r\nGET l:3\r\n",
    "DEL l:1 l:2 o:1\r\n",
    "UNLINK o:2 l:3\r\n",
    "MULTI\r\nGET l:1\r\nDEL l:1\r\nEXEC\r\n",
    "FLUSHDB\r\n",
    "SWAPDB 0 1\r\n",
    "SELECT 1\r\nGET l:1\r\nGET o:1\r\nSELECT 0\r\n",
    "CLIENT REPLY SKIP\r\nGET l:2\r\n",
    "QUIT\r\n",
];

#[test]
fn when_all_clients_have_gone_nothing_is_under_way_whatever_they_did() {
    for seed in 0..2 {
        let bench = Bench::with(
            "timeout = \"50ms\"\nttl = \"30ms\"\nerror-ttl = \"20ms\"\n\
             stale-while-revalidate = \"30ms\"\nstale-if-error = \"60ms\"\n\
             soft-timeout = \"1ms\"",
            "lease = \"20ms\"\nnegative-ttl = \"10ms\"\nbeta = 4",
        );
        bench.has("1", "one");
        bench.has("2", "two");
        bench.fails("bad");
        let mut random = StdRng::seed_from_u64(seed);
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..STEPS {
            let index = random.random_range(0..CLIENTS_MAX);
            if index >= clients.len() {
                clients.push(bench.connect());
            } else if random.random_range(0..12) == 0 {
                drop(clients.swap_remove(index));
            } else {
                let request = REQUESTS[random.random_range(0..REQUESTS.len())];
                // The server may have closed it already.
                clients[index].try_send(request);
            }
        }
        let mut last = bench.connect();
        last.ask("PING\r\n", "+PONG\r\n");
        drop(last);
        drop(clients);
        bench.until_clients(0);
        until("nothing is under way", || {
            bench.server.instance.policy.under_way() == 0
        });
    }
}
