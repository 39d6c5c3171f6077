//! The front door under hostile input, from outside: bytes, names and addresses that two programs could read in two
//! ways. What counts is what the server behind the gate read, and what the ledger says it may have read.

#[cfg(test)]
#[expect(dead_code, reason = "it serves another test binary too, and not all of it is needed here")]
mod harness;

#[cfg(test)]
#[path = "strict"]
mod strict {
    mod addresses;
    mod authority;
    mod bodies;
    mod client;
    mod frames;
    mod framing;
    mod handshakes;
    mod heads;
    mod http2;
    mod legs;
    mod payload;
    mod peers;
    mod rebinding;
    mod replies;
    mod requests;
    mod resolver;
    mod targets;
    mod versions;
}
