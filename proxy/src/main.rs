//! The `writ` binary: reads the command line and hands over.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A request is read by one thread, recorded by another and indexed by a third: with the C library's allocator they wait
/// for each other's locks at every allocation.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    writ::cli::main()
}
