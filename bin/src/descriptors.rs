//! How many descriptors, and so sockets, this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many as the system lets it have: shells and service managers give 1,024 to those who do not ask for more.
pub(crate) fn allow_most() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}
