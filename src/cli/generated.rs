//! Completions, man pages and the JSON Schema, rendered from the code. The checked-in copies are compared with these
//! by a test.

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Cli;

/// The shells that completions are checked in for, and the files' names.
pub const SHELLS: [(Shell, &str); 4] = [
    (Shell::Bash, "agentguard.bash"),
    (Shell::Elvish, "agentguard.elv"),
    (Shell::Fish, "agentguard.fish"),
    (Shell::Zsh, "_agentguard"),
];

/// Completions for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "agentguard", &mut script);
    script
}

/// Every man page: file name and text.
pub fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = Cli::command();
    program.build();
    let mut pages = vec![("agentguard.1".to_owned(), page(program.clone())?)];
    add_subcommands(&program, "agentguard", &mut pages)?;
    Ok(pages)
}

/// The pages of a command's subcommands, and of theirs: each refers to those below it.
fn add_subcommands(command: &clap::Command, above: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let name = format!("{above}-{}", subcommand.get_name());
        let titled = subcommand.clone().name(name.clone()).display_name(name.clone());
        pages.push((format!("{name}.1"), page(titled)?));
        add_subcommands(subcommand, &name, pages)?;
    }
    Ok(())
}

/// One man page by subcommand; `None` for the program's.
pub fn man_page(subcommand: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    let wanted = subcommand.map_or_else(|| "agentguard.1".to_owned(), |name| format!("agentguard-{name}.1"));
    Ok(man_pages()?.into_iter().find(|(name, _)| *name == wanted).map(|(_, text)| text))
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).date("").render(&mut text)?;
    Ok(text)
}
