//! A DNS server that lies as it is told (RFC 1035): it serves one UDP socket and answers each name by its first label.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

/// What a name's answers are made of.
#[derive(Clone, Copy)]
pub(crate) enum Lie {
    /// These addresses, whatever is asked as long as the family fits.
    Addresses(&'static [&'static str]),
    /// The first set for odd questions, the second for even ones.
    Flips(&'static [&'static str], &'static [&'static str]),
    /// Bytes that are no answer.
    Garbage,
    /// The name is an alias of itself.
    Loop,
    /// This many public addresses.
    Many(u8),
    /// Nothing, ever.
    Silence,
    /// The first set after this many milliseconds.
    Slow(u64, &'static [&'static str]),
}

/// Answers until the process ends.
pub(crate) fn serve(socket: UdpSocket, lies: &'static [(&'static str, Lie)]) {
    std::thread::spawn(move || {
        let mut asked: HashMap<(String, u16), usize> = HashMap::new();
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let query = question[..length].to_vec();
            let (label, kind) = asked_for(&query);
            let count = asked.entry((label.clone(), kind)).or_default();
            *count += 1;
            let Some((_, lie)) = lies.iter().find(|(name, _)| *name == label) else { continue };
            let (lie, count, socket) = (*lie, *count, socket.try_clone().unwrap());
            std::thread::spawn(move || answer(&query, kind, lie, count).map(|answer| socket.send_to(&answer, peer)));
        }
    });
}

/// The first label, in lower case, and the type that is asked for.
fn asked_for(query: &[u8]) -> (String, u16) {
    let length = usize::from(query[12]);
    let label = String::from_utf8_lossy(&query[13..13 + length]).to_ascii_lowercase();
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    (label, u16::from_be_bytes([query[end + 1], query[end + 2]]))
}

fn answer(query: &[u8], kind: u16, lie: Lie, count: usize) -> Option<Vec<u8>> {
    let addresses = match lie {
        Lie::Addresses(set) => set,
        Lie::Flips(odd, even) => {
            if count % 2 == 1 {
                odd
            } else {
                even
            }
        }
        Lie::Garbage => return Some([&query[..2], &[0xff; 60]].concat()),
        Lie::Loop => return Some(message(query, &[record(CNAME, &[0xc0, 0x0c])])),
        Lie::Many(count) => {
            let records = (1..=count).map(|last| record(A, &[93, 184, 216, last]));
            return Some(message(query, &if kind == A { records.collect() } else { Vec::new() }));
        }
        Lie::Silence => return None,
        Lie::Slow(millis, set) => {
            std::thread::sleep(Duration::from_millis(millis));
            set
        }
    };
    let records = addresses.iter().filter_map(|address| match address.parse().unwrap() {
        IpAddr::V4(ip) => (kind == A).then(|| record(A, &Ipv4Addr::octets(&ip))),
        IpAddr::V6(ip) => (kind == AAAA).then(|| record(AAAA, &ip.octets())),
    });
    Some(message(query, &records.collect::<Vec<_>>()))
}

/// The question again, and these records.
fn message(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let head = [&query[..2], &[0x81, 0x80, 0, 1], &count, &[0; 4], &query[12..end]].concat();
    [head, records.concat()].concat()
}

/// A record about the name in the question that may not be kept.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[0xc0, 0x0c], kind.to_be_bytes().as_slice(), &[0, 1, 0, 0, 0, 0], &length, data].concat()
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
