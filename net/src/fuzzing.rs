//! What the fuzz targets call, over items that are private otherwise. Compiled only by cargo-fuzz, which sets
//! `--cfg fuzzing`.
//!
//! Each function takes any bytes and panics where a promise is broken: no bytes from a socket or from a file of the
//! operator make the front panic, and what is read from them is one thing, whoever reads it.

mod connect;
mod head;
mod proof;
mod subjects;

/// The JSON of CONNECT, as a server reads it, and of INFO, as the client of another server does.
pub fn connect_json(input: &[u8]) {
    connect::at_a_server(input);
    connect::at_a_client(input);
}

/// The head of a request to the monitoring port, and what is answered.
pub fn http_head(input: &[u8]) {
    head::check(input);
}

/// What proves who somebody is, and what that one may do: seeds, credentials files, keys, hashes, rules.
pub fn proof(input: &[u8]) {
    proof::files(input);
    proof::users(input);
}

/// Subjects and patterns from clients, and what this server reads in them and behind them.
pub fn subjects(input: &[u8]) {
    subjects::patterns(input);
    subjects::names(input);
}

/// The input cut at its line feeds: up to `N` parts, empty ones for those that are missing.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
