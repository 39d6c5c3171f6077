//! What every command does first: closes its memory and its files to others, and opens the log.

use tracing_subscriber::EnvFilter;

use super::say_error;

/// Before any secret is read: no core dumps, and no file of ours for anybody else. As many open files as are allowed.
pub(super) fn harden() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        say_error(&format!("core dumps could not be turned off: {error}"));
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        say_error(&format!("the number of open files could not be raised: {error}"));
    }
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say_error(&format!("memory could not be closed to other processes: {error}"));
    }
}

pub(super) fn log() {
    let filter = EnvFilter::try_from_env("WRIT_LOG").unwrap_or_else(|_| "writ=info".into());
    let filter = DISCREET.iter().filter_map(|each| each.parse().ok()).fold(filter, EnvFilter::add_directive);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::env::var("WRIT_LOG_FORMAT") {
        Ok(format) if format == "json" => log.json().flatten_event(true).init(),
        Ok(_) | Err(_) => log.init(),
    }
}

/// Libraries that write out what they carry, headers and all, when they are told to trace.
const DISCREET: [&str; 4] = ["aws_config=info", "aws_runtime=info", "aws_sigv4=info", "aws_smithy_runtime=info"];
