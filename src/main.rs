//! The command `midtrain`.

midtrain::allocator!();

fn main() -> std::process::ExitCode {
    midtrain::command::main()
}
