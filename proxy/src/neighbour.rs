//! Notices an agent that runs as the gate's own user: it could read every key and secret, whatever policy says.
//!
//! Only warns, once: on a developer's machine it may be meant. The users of other machines cannot be seen from here.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::Timestamp;
use nix::unistd::geteuid;

use crate::gate::Gate;

/// Whether the warning was given, and when a client is looked at next.
#[derive(Debug, Default)]
pub struct Neighbours {
    warned: AtomicBool,
    /// Unix seconds.
    next: AtomicI64,
}

/// Looks at the user of a client on this machine, now and then, until one was found to be the gate's own.
pub fn look(gate: &Arc<Gate>, client: SocketAddr) {
    let (known, now) = (&gate.neighbours, Timestamp::now().as_second());
    let is_due = client.ip().is_loopback() && now >= known.next.load(Ordering::Relaxed);
    if known.warned.load(Ordering::Relaxed) || !is_due {
        return;
    }
    known.next.store(now + LOOK_EVERY_SECONDS, Ordering::Relaxed);
    let gate = Arc::clone(gate);
    // The table of a busy machine is long. Nobody waits for it.
    drop(tokio::task::spawn_blocking(move || {
        let own = geteuid().as_raw();
        if user_of(client) == Some(own) && !gate.neighbours.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%client, uid = own, "an agent runs as the gate's own user and can read its keys; give it a user of its own");
        }
    }));
}

/// The user whose socket has this address, as the kernel lists it (proc(5), `/proc/net/tcp`).
fn user_of(client: SocketAddr) -> Option<u32> {
    let table = if client.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    find(&fs::read_to_string(table).ok()?, client)
}

fn find(table: &str, client: SocketAddr) -> Option<u32> {
    let address = match client.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    let wanted = format!("{address}:{:04X}", client.port());
    let row = table.lines().find(|line| line.split_whitespace().nth(LOCAL_ADDRESS) == Some(wanted.as_str()))?;
    row.split_whitespace().nth(UID)?.parse().ok()
}

/// Four bytes at a time, as a number of this machine.
fn words(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4).filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok());
    words.map(|word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
}

/// Column of a socket's own address.
const LOCAL_ADDRESS: usize = 1;

/// Column of its user.
const UID: usize = 7;

/// How often clients are looked at.
const LOOK_EVERY_SECONDS: i64 = 10;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_user_of_a_socket_of_this_process_is_its_own() {
        for door in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(door) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(user_of(client.local_addr().unwrap()), Some(geteuid().as_raw()), "{door}");
        }
        assert_eq!(user_of("127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn another_user_is_told_apart() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                     0: 0100007F:0FA1 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1\n   \
                     1: 0100007F:9C40 0100007F:0FA1 01 00000000:00000000 00:00000000 00000000  1001        0 2\n";
        assert_eq!(find(table, "127.0.0.1:40000".parse().unwrap()), Some(1001));
    }
}
