//! The `aquifer` command; see `aquifer --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
